//! `key` and `administration-log`: the commands, and their effect on running services.

use std::{fs, process::Output};

use http::{Method, StatusCode};
use sha1::{Digest, Sha1};

use crate::{
    program::{Program, run},
    support::{app::PATH, database::TestDatabase, on_every_engine, until},
};

on_every_engine!(a_client_gets_a_key_of_its_own_and_loses_it);

const MASTER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW_MASTER: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// Checks the exit code of a command, and returns its standard output.
fn ends(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Whether a replica accepts a key.
async fn accepts(program: &Program, secret: &str) -> bool {
    let hash = hex::encode(Sha1::digest(format!("admin3{secret}")));
    let target = format!("{PATH}?u=admin&user_id=3&hash={hash}&city=Kaunas");
    let answer = program.send(Method::POST, &target, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body.contains("successfully")
}

async fn a_client_gets_a_key_of_its_own_and_loses_it(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master");
    fs::write(&file, MASTER).unwrap();
    let path = file.to_str().unwrap();
    let variables = [("M4_API_MASTER_KEY_FILE", path), ("M4_LOG", "trace")];
    let left = Program::demo(&database, &variables).await;
    let right = Program::demo(&database, &variables).await;
    let variables = [variables[0], ("M4_DATABASE_URL", &*database.url), ("USER", "operator")];
    let command = |arguments: &[&str]| run(arguments, &variables);

    let made = ends(
        &command(&[
            "key",
            "create",
            "--name",
            "crm",
            "--username",
            "admin",
            "--network",
            "127.0.0.1,10.0.0.0/8",
            "--field",
            "address",
            "--recipes",
            "u,user_id",
            "--expires-in",
            "90",
        ]),
        0,
    );
    let first = made.trim_end();
    for program in [&left, &right] {
        until("a replica accepts the key", || accepts(program, first)).await;
    }
    let rotated = ends(&command(&["key", "rotate", "crm"]), 0);
    let second = rotated.trim_end();
    for program in [&left, &right] {
        until("a replica accepts the new key", || accepts(program, second)).await;
    }
    assert!(accepts(&right, first).await);
    let listed = ends(&command(&["key", "list"]), 0);
    let lines: Vec<Vec<_>> = listed.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 3);
    for line in &lines[1..] {
        let bindings = ["crm", "admin", "127.0.0.1/32,10.0.0.0/8", "address", "u,user_id"];
        assert_eq!((&line[1..6], line[8]), (&bindings[..], "active"));
    }

    // The master key is replaced while the services run.
    fs::write(&file, format!("{NEW_MASTER}\n{MASTER}")).unwrap();
    assert_eq!(ends(&command(&["key", "reseal"]), 0), "2 secrets are sealed again\n");
    // A replica may not have read the new master key yet.
    until("the new master key is read, and no call fails", async || {
        for program in [&left, &right] {
            assert!(accepts(program, second).await, "{}", program.log());
        }
        [&left, &right].into_iter().all(|program| program.log().contains("secrets reloaded"))
    })
    .await;
    fs::write(&file, NEW_MASTER).unwrap();
    assert!(accepts(&left, second).await);

    assert_eq!(ends(&command(&["key", "revoke", lines[1][0]]), 0), "1 key is revoked\n");
    for program in [&left, &right] {
        until("a replica refuses the key", async || !accepts(program, first).await).await;
        assert!(accepts(program, second).await);
    }
    assert_eq!(ends(&command(&["key", "revoke", "crm"]), 0), "1 key is revoked\n");
    ends(&command(&["key", "revoke", "crm"]), 1);
    ends(&command(&["key", "rotate", "crm"]), 1);
    ends(&command(&["settings", "set", "allow_get_api=on"]), 0);
    ends(&command(&["token", "create", "--name", "portal", "--scope", "read"]), 0);

    until("the calls are counted", async || {
        ends(&command(&["legacy", "report"]), 0).lines().count() == 2
    })
    .await;
    let report = ends(&command(&["legacy", "report", "--since", "2026-01-01"]), 0);
    let line: Vec<_> = report.lines().nth(1).unwrap().split('\t').collect();
    assert_eq!(line[..3], ["crm", "127.0.0.1", "admin"]);
    // Hashes of a key that a replica does not know yet are wrong.
    assert_eq!([line[7], line[9], line[10]], ["0", "u,user_id", "address.city"]);
    let report = ends(&command(&["legacy", "report", "--json"]), 0);
    let object: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&object["key"], &object["gets"]), (&"crm".into(), &0.into()));
    assert_eq!(ends(&command(&["legacy", "report", "--json", "--since", "2999-01-01"]), 0), "");
    ends(&command(&["legacy", "report", "--since", "yesterday"]), 2);

    let log = ends(&command(&["administration-log"]), 0);
    let entries: Vec<Vec<_>> = log.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let objects: Vec<_> = entries.iter().map(|entry| entry[5]).collect();
    let keys = ["legacy_key"; 6];
    assert_eq!(objects, [&["service_token", "setting"][..], &keys].concat());
    for entry in &entries {
        assert!(entry[2].starts_with("cli:operator@"), "{entry:?}");
    }
    assert_eq!(entries[1][6..], ["allow_get_api", "off", "on"]);
    assert_eq!(entries[2][7..], ["active", "revoked"]);
    let older =
        ends(&command(&["administration-log", "--limit", "1", "--before", entries[0][0]]), 0);
    assert_eq!(older.lines().nth(1), log.lines().nth(2));

    let told = left.log() + &right.log() + &listed + &log;
    for secret in [first, second, MASTER, NEW_MASTER] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[test]
fn a_key_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let file = folder.path().join("master");
    fs::write(&file, MASTER).unwrap();
    let database = ("M4_DATABASE_URL", &*url);
    let with = [database, ("M4_API_MASTER_KEY_FILE", file.to_str().unwrap())];
    ends(&run(&["migrate"], &[database]), 0);
    let create = ["key", "create", "--name", "crm"];
    for wrong in [
        &["--field", "nothing"][..],
        &["--field", "*"],
        &["--network", "10.0.0.0/33"],
        &["--recipes", "sha256"],
        &["--expires-in", "0"],
    ] {
        ends(&run(&[&create[..], wrong].concat(), &with), 2);
    }
    ends(&run(&["key", "create", "--name", "a\tb"], &with), 1);
    let output = run(&create, &[database]);
    ends(&output, 1);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("api.master_key_file"), "{told}");
    fs::write(&file, "no master key").unwrap();
    let output = run(&create, &with);
    ends(&output, 2);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("64 hexadecimal digits") && !told.contains("no master key"), "{told}");
}
