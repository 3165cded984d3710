//! `token`: create, list and revoke, and the effect on running services.

use std::process::Output;

use http::StatusCode;
use m4_user_details::proto::GetUserDetailsRequest;
use sha2::{Digest, Sha256};
use tonic::{Code, Request, Status};

use crate::{
    program::{Program, run},
    support::{database::TestDatabase, on_every_engine, until},
};

on_every_engine!(a_token_is_made_used_and_revoked_on_every_replica);

/// Checks the exit code of a command, and returns its standard output.
fn ends(output: &Output, code: i32) -> String {
    let told = format!("{output:?}");
    assert_eq!(output.status.code(), Some(code), "{told}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Reads alice with a token, as admin.
async fn read(program: &Program, token: &str) -> Result<(), Status> {
    let acting_username = "admin".to_owned();
    let mut request = Request::new(GetUserDetailsRequest { user_id: 3, acting_username });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    program.users().get_user_details(request).await.map(drop)
}

/// Waits until a replica accepts a token, or refuses it.
async fn until_taken(program: &Program, token: &str, taken: bool) {
    until("the replica has read the tokens", || async {
        match read(program, token).await {
            Ok(()) => taken,
            Err(status) => !taken && status.code() == Code::Unauthenticated,
        }
    })
    .await;
}

async fn a_token_is_made_used_and_revoked_on_every_replica(database: TestDatabase) {
    let closed = [("M4_GRPC_REQUIRE_TOKEN", "true"), ("M4_LOG", "trace")];
    let mut left = Program::demo(&database, &closed).await;
    let right = Program::demo(&database, &closed).await;
    let variables = [("M4_DATABASE_URL", &*database.url), ("M4_LOG", "trace")];
    let token = |arguments: &[&str]| {
        let arguments: Vec<_> = ["token"].iter().chain(arguments).copied().collect();
        run(&arguments, &variables)
    };
    assert_eq!(read(&left, "").await.unwrap_err().code(), Code::Unauthenticated);
    let make = ["create", "--name", "crm", "--scope", "read,update", "--field", "address"];
    let made = ends(&token(&make), 0);
    let text = made.strip_suffix('\n').unwrap();
    let (id, secret) = text.strip_prefix("m4_").unwrap().split_once('_').unwrap();
    until_taken(&left, text, true).await;
    until_taken(&right, text, true).await;
    let listed = ends(&token(&["list"]), 0);
    let line: Vec<_> = listed.lines().nth(1).unwrap().split('\t').collect();
    assert_eq!(line[..4], [id, "crm", "read update", "address"]);
    assert_eq!((line[5], line[7]), ("-", "active"));

    let ends_some_day = ["create", "--name", "crm", "--scope", "admin", "--expires-in", "90"];
    let other = ends(&token(&ends_some_day), 0);
    until_taken(&left, other.trim_end(), true).await;
    assert_eq!(ends(&token(&["revoke", id]), 0), "1 token is revoked\n");
    until_taken(&left, text, false).await;
    until_taken(&right, text, false).await;
    read(&left, other.trim_end()).await.unwrap();
    assert_eq!(ends(&token(&["revoke", "crm"]), 0), "1 token is revoked\n");
    until_taken(&right, other.trim_end(), false).await;
    ends(&token(&["revoke", "crm"]), 1);
    let listed = ends(&token(&["list"]), 0);
    assert_eq!(listed.matches("\trevoked\n").count(), 2, "{listed}");

    left.signal("TERM");
    left.ended().await;
    let told = left.log() + &right.log() + &listed;
    let hash = hex::encode(Sha256::digest(text));
    for secret in [secret, &hash] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[test]
fn a_token_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let variables = [("M4_DATABASE_URL", &*url)];
    // The command does not create a missing database.
    ends(&run(&["token", "list"], &variables), 1);
    ends(&run(&["migrate"], &variables), 0);
    for wrong in [
        &["--name", "crm"][..],
        &["--scope", "read"],
        &["--name", "", "--scope", "read"],
        &["--name", "a\tb", "--scope", "read"],
        &["--name", "crm", "--scope", "write"],
        &["--name", "crm", "--scope", "read,"],
        &["--name", "crm", "--scope", "read", "--field", "city"],
        &["--name", "crm", "--scope", "read", "--field", "*"],
        &["--name", "crm", "--scope", "read", "--expires-in", "0"],
    ] {
        let arguments: Vec<_> = ["token", "create"].iter().chain(wrong).copied().collect();
        ends(&run(&arguments, &variables), 2);
    }
    assert_eq!(ends(&run(&["token", "list"], &variables), 0).lines().count(), 1);
}

#[test]
fn jwts_are_configured_as_a_whole() {
    for (variables, problem) in [
        (&[("M4_JWT_JWKS", "https://id.example/jwks")][..], "jwt.issuer"),
        (&[("M4_JWT_ISSUER", "x"), ("M4_JWT_AUDIENCE", "x")], "jwt.jwks"),
        (
            &[("M4_JWT_JWKS", "ftp://x/"), ("M4_JWT_ISSUER", "x"), ("M4_JWT_AUDIENCE", "x")],
            "jwt.jwks (environment) must be a file, or an http:// or https:// URL",
        ),
    ] {
        let output = run(&["config"], variables);
        ends(&output, 2);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(problem), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tokens_are_demanded_others_may_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    // Everybody knows the secret key of the demo data.
    let key = ("M4_API_SECRET_KEY", "a key of the operator");
    let wide = [("M4_DATABASE_URL", &*url), ("M4_GRPC_LISTEN", "0.0.0.0:0"), key];
    let demanded = [&wide[..], &[("M4_GRPC_REQUIRE_TOKEN", "true")]].concat();
    // The URL is unreachable: the program starts anyway.
    let jwks = ("M4_JWT_JWKS", "http://127.0.0.1:1/jwks");
    let jwt = [jwks, ("M4_JWT_ISSUER", "x"), ("M4_JWT_AUDIENCE", "x")];
    let jwt = [&wide[..], &jwt].concat();
    for variables in [&demanded[..], &jwt] {
        let mut program = Program::serve(&["--demo"], variables).await;
        program.wait_for_status("/readyz", StatusCode::OK).await;
        let request = GetUserDetailsRequest { user_id: 3, ..Default::default() };
        let status = program.users().get_user_details(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        program.signal("TERM");
        assert!(program.ended().await.success());
    }
}
