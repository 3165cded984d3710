//! `export`: whole tables from one snapshot, in bounded memory.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    process::Stdio,
    sync::Arc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    program::{Program, command, run},
    support::{
        database::{Kind, TestDatabase},
        on_every_engine,
    },
    verification::while_writing,
};

on_every_engine!(
    accounts_and_changes_are_written_in_both_formats,
    an_export_beside_writers_is_one_snapshot,
    an_export_waits_for_a_slow_reader_in_bounded_memory,
    a_row_that_cannot_be_read_is_left_out_and_told,
);

/// The standard output and the standard error.
fn export(url: &str, arguments: &[&str], code: i32) -> (String, String) {
    let arguments: Vec<_> = ["export"].iter().chain(arguments).copied().collect();
    let output = run(&arguments, &[("M4_DATABASE_URL", url)]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    (String::from_utf8(output.stdout).unwrap(), errors)
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn accounts_and_changes_are_written_in_both_formats(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    program.set_city("Köln, \"am Rhein\"\nDom", "").await.unwrap();
    assert!(program.call("admin", "3", "tax1_value=1.50").await.body.contains("successfully"));
    assert!(program.call("admin", "3", "responsible_manager_id=7").await.body.contains("success"));

    let (text, _) = export(&database.url, &["accounts"], 0);
    let accounts = objects(&text);
    assert_eq!(accounts.len(), 8);
    let alice = &accounts[2];
    let expected: BTreeMap<_, Value> = [
        ("id", "3".into()),
        ("username", "alice".into()),
        ("account_type", "user".into()),
        ("manager_group_id", Value::Null),
        ("show_only_assigned_users", false.into()),
        ("version", "4".into()),
        ("create_time", "2026-01-01T00:00:00.000000Z".into()),
        ("currency_id", "1".into()),
        ("call_limit", 10.into()),
        ("hidden", false.into()),
        ("responsible_manager_id", "7".into()),
        ("block_date", "2027-03-31".into()),
        ("city", "Köln, \"am Rhein\"\nDom".into()),
        ("warning_email_balance", "25.5".into()),
        ("tax1_value", "1.5".into()),
        ("enable_static_list", "whitelist".into()),
    ]
    .into();
    for (name, value) in expected {
        assert_eq!(alice[name], value, "{name}");
    }
    assert_eq!(accounts[5]["manager_group_id"], "1");
    assert_eq!(accounts[5]["show_only_assigned_users"], true);
    let columns = m4_user_details::fields::FIELDS.len() + 8;
    assert_eq!(alice.as_object().unwrap().len(), columns);

    let (csv, _) = export(&database.url, &["accounts", "--format", "csv"], 0);
    let header = csv.lines().next().unwrap();
    assert_eq!(header.split(',').count(), columns);
    assert!(header.starts_with("id,username,account_type,manager_group_id,"), "{header}");
    assert!(csv.contains("\n3,alice,user,,false,4,2026-01-01T00:00:00.000000Z,"), "{csv}");
    assert!(csv.contains(",\"Köln, \"\"am Rhein\"\"\nDom\","), "{csv}");

    let (text, _) = export(&database.url, &["change-log", "--format", "jsonl"], 0);
    let changes = objects(&text);
    assert_eq!(changes.len(), 3);
    assert_eq!((&changes[0]["user_id"], &changes[0]["version"]), (&"3".into(), &"2".into()));
    assert_eq!((&changes[0]["door"], &changes[1]["door"]), (&"grpc".into(), &"legacy".into()));
    assert_eq!(changes[1]["actor_id"], "1");
    let tax = serde_json::json!([{"field": "taxes.tax1_value", "old": "21", "new": "1.5"}]);
    assert_eq!(changes[1]["changes"], tax);
    let manager = serde_json::json!([
        {"field": "general.responsible_manager_id", "old": "2", "new": "7"}
    ]);
    assert_eq!(changes[2]["changes"], manager);
    let (csv, _) = export(&database.url, &["change-log", "--format", "csv"], 0);
    assert!(csv.starts_with("id,user_id,version,change_time,actor_id,service,door,"), "{csv}");
    let tax = "\"[{\"\"field\"\":\"\"taxes.tax1_value\"\",\"\"old\"\":\"\"21\"\",";
    assert!(csv.contains(tax), "{csv}");
    assert_eq!(run(&["export", "settings"], &[]).status.code(), Some(2));
}

async fn an_export_beside_writers_is_one_snapshot(database: TestDatabase) {
    let program = Arc::new(Program::demo(&database, &[]).await);
    let url = database.url.clone();
    while_writing(&program, async {
        for _ in 0..5 {
            let url = url.clone();
            let exported = tokio::task::spawn_blocking(move || export(&url, &["change-log"], 0));
            let (text, _) = exported.await.unwrap();
            // All entries are alice's: a missing one would be a gap in her versions.
            let versions = objects(&text).into_iter().map(|entry| entry["version"].clone());
            let expected = (2..).map(|version: i64| Value::from(version.to_string()));
            assert!(versions.zip(expected).all(|(version, expected)| version == expected));
        }
    })
    .await;
}

/// Entries of the slow reader's export: 45 MB of output.
const ENTRIES: usize = 100_000;

async fn an_export_waits_for_a_slow_reader_in_bounded_memory(database: TestDatabase) {
    let migrated = run(&["migrate", "--demo"], &[("M4_DATABASE_URL", &database.url)]);
    assert_eq!(migrated.status.code(), Some(0));
    let numbers = match database.kind {
        Kind::Sqlite => format!(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers \
             WHERE n < {ENTRIES}) SELECT n FROM numbers"
        ),
        Kind::Postgres => format!("SELECT generate_series(1, {ENTRIES}) AS n"),
        Kind::MariaDb => format!("SELECT seq AS n FROM seq_1_to_{ENTRIES}"),
    };
    let reason = "r".repeat(255);
    database
        .execute(&format!(
            "INSERT INTO change_log (user_id, version, change_time, door, reason, changes) \
             SELECT 3, n, 1, 'grpc', '{reason}', '[]' FROM ({numbers}) numbers"
        ))
        .await;
    let mut exporter = command(&["export", "change-log"], &[("M4_DATABASE_URL", &database.url)]);
    let mut exporter = exporter.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(exporter.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    // Longer than the timeouts of statements and of idle transactions in calls.
    thread::sleep(Duration::from_secs(11));
    let mut lines = 1;
    for _ in 0..ENTRIES / 2 {
        line.clear();
        lines += usize::from(output.read_line(&mut line).unwrap() > 0);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let output = exporter.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines + rest.lines().count(), ENTRIES);
    assert!(peak < 60_000, "{peak} kB");

    // A reader that goes is no error.
    let mut exporter = command(&["export", "change-log"], &[("M4_DATABASE_URL", &database.url)]);
    let mut exporter = exporter.stdout(Stdio::piped()).spawn().unwrap();
    drop(exporter.stdout.take());
    assert!(exporter.wait().unwrap().success());
}

async fn a_row_that_cannot_be_read_is_left_out_and_told(database: TestDatabase) {
    let migrated = run(&["migrate", "--demo"], &[("M4_DATABASE_URL", &database.url)]);
    assert_eq!(migrated.status.code(), Some(0));
    let bad_row = "UPDATE accounts SET enable_static_list = 'hush' WHERE id = 4";
    database.execute_without_triggers(bad_row).await;
    let (text, errors) = export(&database.url, &["accounts"], 1);
    assert_eq!(text.lines().count(), 7);
    assert!(errors.contains("the row 4 cannot be read and is left out"), "{errors}");
    assert!(!errors.contains("hush"), "{errors}");
    let changes = r#"[{"field":"address.city","old":"a","new":"b"},{"field":"later.hush"}]"#;
    database
        .execute(&format!(
            "INSERT INTO change_log (user_id, version, change_time, door, changes) \
             VALUES (3, 2, 1, 'grpc', '{changes}')"
        ))
        .await;
    let (text, errors) = export(&database.url, &["change-log"], 1);
    assert_eq!(text.lines().count(), 1);
    assert!(errors.contains("0 rows and 1 changes cannot be read"), "{errors}");
}
