//! Versions side by side: a schema and rows that a newer version has changed.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use http::StatusCode;
use m4_user_details::proto::{GetUserDetailsRequest, ListUserDetailsRequest};
use tonic::Code;

use crate::{
    program::{Program, command, run},
    support::{
        database::{Kind, TestDatabase},
        on_every_engine, on_servers, until,
    },
};

on_every_engine!(
    an_older_program_runs_on_a_newer_schema,
    a_schema_that_is_marked_as_incompatible_is_refused_in_words,
    a_bad_row_is_named_in_the_log_and_counted,
    demo_data_that_cannot_be_filled_leaves_an_empty_database,
);

// On SQLite no statement waits within the transaction.
on_servers!(demo_data_is_all_or_nothing_where_the_program_is_killed_midway);

fn told(arguments: &[&str], database: &TestDatabase) -> (Option<i32>, String) {
    let output = run(arguments, &[("M4_DATABASE_URL", &database.url)]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn assert_done(arguments: &[&str], database: &TestDatabase) {
    let (code, told) = told(arguments, database);
    assert_eq!(code, Some(0), "{told}");
}

async fn an_older_program_runs_on_a_newer_schema(database: TestDatabase) {
    assert_done(&["migrate", "--demo"], &database);
    for (table, column) in [("seaql_migrations", "version, applied_at"), ("schema_steps", "name")] {
        let value = if column == "name" { "'m0099_future'" } else { "'m0099_future', 1" };
        database.execute(&format!("INSERT INTO {table} ({column}) VALUES ({value})")).await;
    }
    database.execute("CREATE TABLE future (id bigint PRIMARY KEY)").await;
    database.execute("ALTER TABLE accounts ADD COLUMN future varchar(9) NOT NULL DEFAULT ''").await;
    assert_done(&["migrate"], &database);
    for city in ["Bonn", "Kaunas"] {
        let program = Program::demo(&database, &[]).await;
        program.set_city(city, "").await.unwrap();
        assert!(program.call("admin", "3", "hidden=1").await.body.contains("successfully"));
        program.kill();
    }
}

async fn a_schema_that_is_marked_as_incompatible_is_refused_in_words(database: TestDatabase) {
    assert_done(&["migrate", "--demo"], &database);
    let steps = "SELECT count(*) FROM schema_steps";
    let before = database.number(steps).await;
    let mark = "INSERT INTO schema_incompatible (step, reason) \
                VALUES ('m0099_future', 'usernames are in another table')";
    database.execute(mark).await;
    database.execute("DELETE FROM schema_steps").await;
    for arguments in [
        &["migrate"] as &[_],
        &["settings", "get"],
        &["settings", "set", "allow_api=off"],
        &["token", "create", "--name", "crm", "--scope", "read"],
    ] {
        let (code, told) = told(arguments, &database);
        assert_eq!(code, Some(2), "{told}");
        for part in ["newer version", "m0099_future", "usernames are in another table"] {
            assert!(told.contains(part), "{told}");
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM service_tokens").await, 0);
    assert_eq!(database.number(steps).await, 0);

    let variables = [("M4_DATABASE_URL", &*database.url), ("M4_LOG", "debug")];
    let program = Program::serve(&["--demo"], &variables).await;
    let lines = |level: &str| {
        let log = program.log();
        let level = format!("\"level\":\"{level}\"");
        let is_of_level = |line: &&str| line.contains(&level) && line.contains("m0099_future");
        log.lines().filter(is_of_level).count()
    };
    until("it has looked three times", || async { lines("DEBUG") >= 2 }).await;
    assert_eq!(lines("ERROR"), 1, "{}", program.log());
    program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
    program.wait_for_status("/healthz", StatusCode::OK).await;
    assert_eq!(program.set_city("Bonn", "").await.unwrap_err().code(), Code::Unavailable);
    // The database accepts this version again.
    database.execute("DELETE FROM schema_incompatible").await;
    program.wait_for_status("/readyz", StatusCode::OK).await;
    assert_eq!(database.number(steps).await, before);
}

async fn a_bad_row_is_named_in_the_log_and_counted(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let counted = async || {
        let metrics = program.ask_admin("/metrics").await.body;
        let name = "m4_storage_unknown_values_total{db_collection_name=\"accounts\"";
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(counted().await, 0.0);
    let bad_row = "UPDATE accounts SET enable_static_list = 'maybe' WHERE id = 4";
    database.execute_without_triggers(bad_row).await;
    let list = ListUserDetailsRequest::default();
    let page = program.users().list_user_details(list).await.unwrap().into_inner();
    let ids: Vec<_> = page.user_details.iter().map(|user| user.user_id).collect();
    assert_eq!(ids, [3, 5]);
    let names_the_row = |line: &&str| {
        line.contains("\"level\":\"ERROR\"") && line.contains("accounts") && line.contains('4')
    };
    until("the row is logged", || async {
        program.log().lines().filter(names_the_row).count() == 1
    })
    .await;
    assert_eq!(counted().await, 1.0);
    let get = GetUserDetailsRequest { user_id: 4, acting_username: "admin".to_owned() };
    let failed = program.users().get_user_details(get).await.unwrap_err();
    assert_eq!(failed.code(), Code::Internal);
    until("the failed call is logged", || async {
        let log = program.log();
        let line = log.lines().filter(names_the_row).nth(1);
        line.is_some_and(|line| line.contains("the row 4 of the table accounts"))
    })
    .await;
    assert_eq!(counted().await, 2.0);
    assert!(!program.log().contains("maybe"), "{}", program.log());
}

const TABLES: [&str; 7] = [
    "accounts",
    "currencies",
    "directions",
    "manager_group_rights",
    "manager_groups",
    "number_pools",
    "settings",
];

async fn assert_empty(database: &TestDatabase) {
    for table in TABLES {
        let rows = database.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(rows, 0, "{table}");
    }
}

async fn demo_data_that_cannot_be_filled_leaves_an_empty_database(database: TestDatabase) {
    assert_done(&["migrate"], &database);
    // Carol is the last account.
    let (forbid, allow) = match database.kind {
        Kind::Sqlite => (
            "CREATE TRIGGER no_carol BEFORE INSERT ON accounts WHEN new.username = 'carol' \
             BEGIN SELECT RAISE(ABORT, 'no carol'); END",
            "DROP TRIGGER no_carol",
        ),
        Kind::Postgres | Kind::MariaDb => (
            "ALTER TABLE accounts ADD CONSTRAINT no_carol CHECK (username <> 'carol')",
            "ALTER TABLE accounts DROP CONSTRAINT no_carol",
        ),
    };
    database.execute(forbid).await;
    let (code, told) = told(&["migrate", "--demo"], &database);
    assert_eq!(code, Some(1), "{told}");
    assert_empty(&database).await;
    database.execute(allow).await;
    assert_done(&["migrate", "--demo"], &database);
    assert_eq!(database.number("SELECT count(*) FROM accounts").await, 8);
    assert_eq!(Program::demo(&database, &[]).await.read(5).await.username, "carol");
}

async fn demo_data_is_all_or_nothing_where_the_program_is_killed_midway(database: TestDatabase) {
    assert_done(&["migrate"], &database);
    // The demo mark is the last row: it waits for this transaction.
    let other = database.begin().await;
    other.execute("INSERT INTO settings (name, value) VALUES ('demo', 'other')").await;
    let variables = [("M4_DATABASE_URL", &*database.url)];
    let mut filling = command(&["migrate", "--demo"], &variables);
    let mut filling = filling.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waits = match database.kind {
        Kind::Postgres => {
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO \"settings\"%'"
        }
        _ => {
            "SELECT count(*) FROM information_schema.processlist WHERE db = database() \
             AND time_ms > 100 AND info LIKE 'INSERT INTO `settings`%'"
        }
    };
    until("it waits to store the mark", || async { database.number(waits).await > 0 }).await;
    filling.kill().unwrap();
    filling.wait().unwrap();
    other.execute("ROLLBACK").await;
    let gone = match database.kind {
        Kind::Postgres => {
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
        }
        _ => {
            "SELECT count(*) FROM information_schema.processlist \
             WHERE db = database() AND id <> connection_id() AND command <> 'Sleep'"
        }
    };
    until("its transaction has ended", || async { database.number(gone).await == 0 }).await;
    assert_empty(&database).await;
    let begun = Instant::now();
    assert_done(&["migrate", "--demo"], &database);
    // On MariaDB the lease of a killed program expires.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(database.number("SELECT count(*) FROM accounts").await, 8);
}
