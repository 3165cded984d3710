//! Files of secrets: running services follow them, and a rotation costs no call.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use ::http::{Method, StatusCode};
use m4_user_details::proto::GetUserDetailsRequest;
use sha1::{Digest, Sha1};
use tonic::{Code, Request};

use crate::{
    program::Program,
    support::{app::PATH, database::TestDatabase, on_every_engine, on_sqlite, until},
};

on_every_engine!(secrets_rotate_without_a_failed_call);

on_sqlite!(a_file_that_cannot_be_used_changes_nothing);

/// Replaces a file at once, as an editor or a secret store does.
fn replace(file: &Path, content: &str) {
    let new = file.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, file).unwrap();
}

/// The body of the response to a legacy call whose hash was made with `key`.
async fn call(program: &Program, key: &str) -> String {
    let hash = hex::encode(Sha1::digest(format!("admin3{key}")));
    let target = format!("{PATH}?u=admin&user_id=3&hash={hash}");
    program.send(Method::POST, &target, &[]).await.body
}

async fn accepts_key(program: &Program, key: &str) -> bool {
    let body = call(program, key).await;
    assert!(body.contains("successfully") || body.contains("Incorrect hash"), "{body}");
    body.contains("successfully")
}

async fn accepts_token(program: &Program, token: &str) -> bool {
    let acting_username = "admin".to_owned();
    let mut request = Request::new(GetUserDetailsRequest { user_id: 3, acting_username });
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    match program.users().get_user_details(request).await {
        Ok(_) => true,
        Err(status) if status.code() == Code::Unauthenticated => false,
        Err(status) => panic!("{status}"),
    }
}

/// Waits until services accept a key and a token, or accept them no more.
async fn until_accepted(services: [&Program; 2], key: &str, token: &str, accepted: bool) {
    for service in services {
        until("the secrets are read again", || async {
            accepts_key(service, key).await == accepted
                && accepts_token(service, token).await == accepted
        })
        .await;
    }
}

async fn secrets_rotate_without_a_failed_call(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let files: [PathBuf; 4] =
        ["keys", "internal", "door", "sent"].map(|name| folder.path().join(name));
    let [keys, internal, door_tokens, sent] = &files;
    for (file, name) in files.iter().zip(["key", "token", "door", "door"]) {
        replace(file, &format!("old {name}\n"));
    }
    let path = |file: &PathBuf| file.to_str().unwrap().to_owned();
    let variables = [
        ("M4_API_SECRET_KEY_FILE", &*path(keys)),
        ("M4_GRPC_TOKEN_FILE", &*path(internal)),
        ("M4_DOOR_TOKEN_FILE", &*path(door_tokens)),
    ];
    let left = Program::demo(&database, &variables).await;
    let right = Program::demo(&database, &variables).await;
    let sent_path = path(sent);
    let door = Program::door(right.grpc.unwrap(), &[("M4_DOOR_TOKEN_FILE", &sent_path)]).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;
    // The secrets of the clients, and the number of their calls.
    let clients = Mutex::new(("old key", "old token", 0));
    let calling = async {
        loop {
            let (key, token, _) = *clients.lock().unwrap();
            for program in [&left, &right, &door] {
                assert!(accepts_key(program, key).await, "{key}");
            }
            for service in [&left, &right] {
                assert!(accepts_token(service, token).await, "{token}");
            }
            clients.lock().unwrap().2 += 1;
        }
    };
    let services = [&left, &right];
    let rotating = async {
        for (file, name) in [(keys, "key"), (internal, "token"), (door_tokens, "door")] {
            replace(file, &format!("new {name}\nold {name}\n"));
        }
        for service in services {
            until("all files are read again", || async {
                service.log().matches("secrets reloaded").count() == files.len() - 1
            })
            .await;
        }
        until_accepted(services, "new key", "new token", true).await;
        until_accepted(services, "old key", "old token", true).await;
        *clients.lock().unwrap() = ("new key", "new token", 0);
        replace(sent, "new door\n");
        until("the gateway sends its new token", || async {
            door.log().contains("secrets reloaded")
        })
        .await;
        // The clients' calls that were under way end first.
        until("clients call with their new secrets", || async { clients.lock().unwrap().2 > 2 })
            .await;
        for (file, name) in [(keys, "key"), (internal, "token"), (door_tokens, "door")] {
            replace(file, &format!("new {name}\n"));
        }
        until_accepted(services, "old key", "old token", false).await;
        let calls = clients.lock().unwrap().2;
        until("clients go on", || async { clients.lock().unwrap().2 > calls + 2 }).await;
    };
    tokio::select! {
        () = calling => unreachable!(),
        () = rotating => {}
    }
    for program in [left, right, door] {
        for secret in ["old key", "new key", "old token", "new token", "old door", "new door"] {
            assert!(!program.log().contains(secret), "{secret}");
        }
    }
}

async fn a_file_that_cannot_be_used_changes_nothing(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    replace(&keys, "first key");
    let path = keys.to_str().unwrap();
    let program = Program::demo(&database, &[("M4_API_SECRET_KEY_FILE", path)]).await;
    let refusals = || program.log().matches("secrets not reloaded").count();
    replace(&keys, "\n");
    until("the empty file is refused", || async { refusals() == 1 }).await;
    assert!(accepts_key(&program, "first key").await);
    fs::remove_file(&keys).unwrap();
    until("the missing file is logged", || async { refusals() == 2 }).await;
    assert!(program.log().contains("api.secret_key_file"), "{}", program.log());
    assert!(accepts_key(&program, "first key").await);
    replace(&keys, "second key");
    until("the new key is read", || async { accepts_key(&program, "second key").await }).await;
    assert!(!accepts_key(&program, "first key").await);
}
