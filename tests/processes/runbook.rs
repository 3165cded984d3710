//! The commands of the runbook, as an operator runs them. On SQLite: the database does not matter
//! here.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use http::StatusCode;
use m4_user_details::proto::{DESCRIPTORS, ListUserDetailsChangesRequest};
use prost::Message;
use prost_types::{FieldDescriptorProto, FileDescriptorSet};
use serde_json::Value;

use crate::{
    program::{Program, clean},
    support::until,
};

/// The client's address in the runbook.
const CLIENT: &str = "192.0.2.7";
/// The test's address.
const LOOPBACK: &str = "127.0.0.1";

/// The lines of the `sh` blocks of a section.
fn lines(section: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations/runbook.md");
    let runbook = fs::read_to_string(path).unwrap();
    let (_, rest) = runbook.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section
        .split("```sh,run-by-runbook\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(|line| line.replace(CLIENT, LOOPBACK)).collect()
}

/// Runs a line in a shell, in a folder with the log.
fn shell(line: &str, url: &str, folder: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_m4-user-details")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let variables = [("M4_DATABASE_URL", url), ("PATH", &*path)];
    clean(Command::new("sh"), &["-ec", line], &variables).current_dir(folder).output().unwrap()
}

/// Makes the call of a `grpcurl` line without grpcurl. Returns the doors and addresses of the
/// listed changes.
async fn list_changes(program: &Program, line: &str) -> Vec<(String, String)> {
    let method = "m4.userdetails.v1.UserDetailsService/ListUserDetailsChanges";
    assert!(line.ends_with(method), "{line}");
    let data = line.split_once("-d '").unwrap().1.split_once('\'').unwrap().0;
    let data: Value = serde_json::from_str(data).unwrap();
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut messages = files.file.iter().flat_map(|file| &file.message_type);
    let request = messages.find(|message| message.name() == "ListUserDetailsChangesRequest");
    let fields: Vec<_> = request.unwrap().field.iter().map(FieldDescriptorProto::name).collect();
    for name in data.as_object().unwrap().keys() {
        assert!(fields.contains(&&**name), "{name}");
    }
    let request = ListUserDetailsChangesRequest {
        actor_id: data["actor_id"].as_i64(),
        newest_first: data["newest_first"].as_bool().unwrap(),
        page_size: data["page_size"].as_i64().unwrap().try_into().unwrap(),
        acting_username: data["acting_username"].as_str().unwrap().to_owned(),
        ..ListUserDetailsChangesRequest::default()
    };
    let answer = program.users().list_user_details_changes(request).await.unwrap();
    let changes = answer.into_inner().changes;
    changes.into_iter().map(|change| (change.door, change.address)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_retired_in_five_steps() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &url)]).await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    assert!(program.call("admin", "3", "city=Kaunas").await.body.contains("successfully"));
    until("the log has the call", || async { program.log().contains("\"door\":\"legacy\"") }).await;
    fs::write(folder.path().join("m4.log"), program.log()).unwrap();

    let mut told = Vec::new();
    for line in lines("Retire a client in five steps") {
        if line.starts_with("grpcurl ") {
            let changes = list_changes(&program, &line).await;
            assert_eq!(changes, [("legacy".to_owned(), LOOPBACK.to_owned())]);
            if let Ok(grpcurl) = std::env::var("TEST_GRPCURL") {
                let create = "m4-user-details token create --name runbook --scope read";
                let token = shell(create, &url, folder.path()).stdout;
                let token = String::from_utf8(token).unwrap();
                let address = program.grpc.unwrap().to_string();
                let call = line.replacen("grpcurl", &grpcurl, 1);
                let call = call.replace("127.0.0.1:50051", &address);
                let call = format!("TOKEN={}\n{call}", token.trim());
                until("the service knows the new token", || async {
                    let output = shell(&call, &url, folder.path());
                    String::from_utf8_lossy(&output.stdout).contains("\"door\": \"legacy\"")
                })
                .await;
            }
            continue;
        }
        let output = shell(&line, &url, folder.path());
        let [out, errors] =
            [output.stdout, output.stderr].map(|own| String::from_utf8(own).unwrap());
        assert!(output.status.success() && errors.is_empty(), "{line}: {out}{errors}");
        told.push((line, out));
    }
    let counted = ["\"client.address\":\"127.0.0.1\"", "\"actor_id\":1", "\"outcome\":\"OK\""];
    for (value, (line, out)) in counted.iter().zip(&told) {
        assert!(out.trim_start().starts_with("1 ") && out.contains(value), "{line}: {out}");
    }
    let (line, settings) = told.last().unwrap();
    assert!(line.ends_with("allow_api=off"), "{line}");
    for setting in [
        "allow_api=off\n",
        "allowed_networks=198.51.100.0/24,2001:db8::/32\n",
        "deprecation=2027-01-01T00:00:00Z\n",
        "sunset=2027-07-01T00:00:00Z\n",
        "retirement_link=https://billing.example/migrate\n",
        "brownouts=\n",
    ] {
        assert!(settings.contains(setting), "{settings}");
    }
    until("the client is shut out and told why", || async {
        let answer = program.call("admin", "3", "").await;
        answer.body.contains("Access Denied") && answer.headers.contains_key("sunset")
    })
    .await;
}
