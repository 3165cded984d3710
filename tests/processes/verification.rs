//! `verify`: the rows match their change log while others write.

use std::{
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;

use crate::{
    program::{Program, run},
    support::{
        database::{Kind, TestDatabase},
        on_every_engine,
    },
};

on_every_engine!(
    a_database_that_is_written_to_is_verified,
    each_defect_is_named_without_its_value,
    many_defects_are_counted,
    a_database_without_schema_is_not_verified,
);

/// The exit code, and the output.
pub(crate) fn verify(url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments: Vec<_> = ["verify"].iter().chain(arguments).copied().collect();
    let Output { status, stdout, stderr } = run(&arguments, &[("M4_DATABASE_URL", url)]);
    let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code(), text)
}

/// Updates users at full speed while `run` runs. Returns the number of updates.
pub(crate) async fn while_writing(program: &Arc<Program>, run: impl Future<Output = ()>) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (program, stop) = (Arc::clone(program), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut updates = 0;
                while !stop.load(Ordering::Relaxed) {
                    program.set_city(&format!("City {writer} {updates}"), "").await.unwrap();
                    updates += 1;
                }
                updates
            })
        })
        .collect();
    run.await;
    stop.store(true, Ordering::Relaxed);
    let mut updates = 0;
    for writer in writers {
        updates += writer.await.unwrap();
    }
    updates
}

async fn a_database_that_is_written_to_is_verified(database: TestDatabase) {
    let program = Arc::new(Program::demo(&database, &[]).await);
    let url = database.url.clone();
    let updates = while_writing(&program, async {
        for _ in 0..5 {
            let url = url.clone();
            let verified = tokio::task::spawn_blocking(move || verify(&url, &[])).await;
            let (code, told) = verified.unwrap();
            assert_eq!(code, Some(0), "{told}");
            assert!(told.starts_with("8 accounts and "), "{told}");
        }
    })
    .await;
    let (code, told) = verify(&database.url, &["--json"]);
    assert_eq!(code, Some(0), "{told}");
    let summary: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(summary["accounts"], 8);
    assert_eq!(summary["entries"], updates);
}

/// Runs a statement that the database's checks of references would refuse.
async fn force(database: &TestDatabase, sql: &str) {
    let off = match database.kind {
        Kind::Sqlite => "PRAGMA foreign_keys = OFF",
        Kind::Postgres => "SET session_replication_role = replica",
        Kind::MariaDb => "SET foreign_key_checks = 0",
    };
    database.execute_without_triggers(&format!("{off}; {sql}")).await;
}

async fn each_defect_is_named_without_its_value(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    for city in ["Bonn", "Kaunas"] {
        program.set_city(city, "").await.unwrap();
    }
    program.kill();
    assert_eq!(verify(&database.url, &[]).0, Some(0));
    for (statement, expected) in [
        ("UPDATE accounts SET city = 'hush' WHERE id = 3", "accounts 3 address.city: is not"),
        ("UPDATE accounts SET version = 9 WHERE id = 3", "accounts 3 version: is not the version"),
        (
            "UPDATE accounts SET call_limit = -1 WHERE id = 4",
            "accounts 4 general.call_limit: holds",
        ),
        ("UPDATE accounts SET email = 'hush' WHERE id = 4", "accounts 4 address.email: holds"),
        ("UPDATE accounts SET tax1_value = -1 WHERE id = 4", "accounts 4 taxes.tax1_value: holds"),
        (
            "UPDATE accounts SET static_list_id = NULL WHERE id = 4",
            "accounts 4 lists.enable_static_list: holds",
        ),
        (
            "UPDATE accounts SET enable_static_source_list = 'hush' WHERE id = 5",
            "accounts 5 enable_static_source_list: holds",
        ),
        (
            "UPDATE accounts SET responsible_manager_id = 1 WHERE id = 4",
            "accounts 4 general.responsible_manager_id: refers",
        ),
        (
            "UPDATE accounts SET currency_id = 99 WHERE id = 5",
            "accounts 5 general.currency_id: refers",
        ),
        (
            "UPDATE accounts SET manager_group_id = 99 WHERE id = 2",
            "accounts 2 manager_group_id: refers",
        ),
        ("UPDATE change_log SET actor_id = 99 WHERE id = 1", "change_log 1 actor_id: refers"),
        ("UPDATE change_log SET user_id = 99 WHERE id = 1", "change_log 1 user_id: names"),
        ("UPDATE change_log SET user_id = 0 WHERE id = 1", "change_log 1 user_id: names"),
        ("UPDATE change_log SET changes = '{}' WHERE id = 1", "change_log 1 changes: cannot"),
    ] {
        force(&database, statement).await;
        let (code, told) = verify(&database.url, &[]);
        assert_eq!(code, Some(1), "{statement}: {told}");
        assert!(told.contains(expected), "{statement}: {told}");
        assert!(!told.contains("hush"), "{told}");
    }
    let (code, told) = verify(&database.url, &["--json"]);
    assert_eq!(code, Some(1), "{told}");
    let mut objects: Vec<Value> =
        told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let summary = objects.pop().unwrap();
    let total: i64 =
        summary["defects"].as_object().unwrap().values().map(|count| count.as_i64().unwrap()).sum();
    assert_eq!(total, i64::try_from(objects.len()).unwrap());
    assert!(objects.iter().any(|object| object["kind"] == "no_account" && object["id"] == "1"));
    if database.kind == Kind::Sqlite {
        // A column of SQLite holds values of any type.
        database.execute("UPDATE accounts SET call_limit = 'hush' WHERE id = 4").await;
        let (_, told) = verify(&database.url, &[]);
        assert!(told.contains("accounts 4 call_limit: cannot be read"), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
}

async fn many_defects_are_counted(database: TestDatabase) {
    let output = run(&["migrate", "--demo"], &[("M4_DATABASE_URL", &database.url)]);
    assert_eq!(output.status.code(), Some(0));
    let rows: Vec<_> = (0..250).map(|version| format!("(3, {version}, 1, 'grpc', '[]')")).collect();
    let insert = "INSERT INTO change_log (user_id, version, change_time, door, changes) VALUES ";
    force(&database, &(insert.to_owned() + &rows.join(", ").replace("(3,", "(77,"))).await;
    let (code, told) = verify(&database.url, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(told.matches("change_log ").count(), 100, "{told}");
    assert!(told.contains("8 accounts and 250 entries verified\nno_account: 250\n"), "{told}");
    assert!(told.contains("250 defects were found"), "{told}");
}

async fn a_database_without_schema_is_not_verified(database: TestDatabase) {
    let (code, told) = verify(&database.url, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("run `migrate`"), "{told}");
}
