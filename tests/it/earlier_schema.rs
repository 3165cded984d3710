//! The schema of the last release, recorded as SQL. This version migrates it, and the statements of
//! the last release still run on it.

use std::collections::BTreeMap;

use m4_user_details::{proto::ListUserDetailsChangesRequest, storage::migrate};
use m4_user_details_migrations::steps;
use sea_orm::ConnectionTrait;

use crate::support::{
    app::{TestApp, set_city},
    database::{Kind, TestDatabase},
    on_every_engine,
};

on_every_engine!(
    the_schema_of_the_last_release_is_brought_up_to_date,
    every_column_of_the_last_release_stays,
    a_new_schema_looks_to_the_last_release_like_its_own,
);

/// The migration steps of the last release.
const STEPS: i64 = 26;

/// Creates the schema of the last release.
async fn load(database: &TestDatabase) {
    let schema = match database.kind {
        Kind::Sqlite => include_str!("../schema/v0.1.0/sqlite.sql"),
        Kind::Postgres => include_str!("../schema/v0.1.0/postgres.sql"),
        Kind::MariaDb => include_str!("../schema/v0.1.0/mariadb.sql"),
    };
    if database.kind == Kind::Sqlite {
        sea_orm::Database::connect(format!("{}?mode=rwc", database.url)).await.unwrap();
    }
    let connection = database.connect().await;
    connection.execute_unprepared(schema).await.unwrap();
    connection.close().await.unwrap();
}

/// Writes an update of alice with a request id, as the last release does.
async fn update_as_the_last_release(database: &TestDatabase, version: i64) {
    let changes = r#"[{"field":"address.city","old":"","new":"Bonn"}]"#;
    let id = format!("0f8fad5b-d9cb-469f-a165-70867728950{version}");
    for statement in [
        format!(
            "UPDATE accounts SET version = {version}, update_time = 1767225600000001, \
             city = 'Bonn' WHERE id = 3 AND version = {}",
            version - 1
        ),
        format!(
            "INSERT INTO change_log (user_id, version, change_time, actor_id, service, door, \
             changes, address, reason, request_id, traceparent, identity) \
             VALUES (3, {version}, 1767225600000001, 1, NULL, 'grpc', '{changes}', '127.0.0.1', \
             'why', '{id}', '', 'crm')"
        ),
        format!(
            "INSERT INTO requests (id, content, answer_time, answer) \
             VALUES ('{id}', 'digest', 1767225600000001, '{{\"changes\":{changes}}}')"
        ),
    ] {
        database.execute(&statement).await;
    }
}

async fn applied(database: &TestDatabase) -> [i64; 2] {
    [
        database.number("SELECT count(*) FROM seaql_migrations").await,
        database.number("SELECT count(*) FROM schema_steps").await,
    ]
}

/// The columns of all tables: type, and whether an insert must name the column.
async fn columns(database: &TestDatabase) -> BTreeMap<String, (String, bool)> {
    let all = match database.kind {
        Kind::Sqlite => {
            "SELECT group_concat(t.name || '.' || c.name || '|' || c.type || '|' || \
             (c.\"notnull\" AND c.dflt_value IS NULL AND NOT c.pk), char(10)) \
             FROM sqlite_master t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'"
        }
        Kind::Postgres => {
            "SELECT string_agg(concat_ws('|', table_name || '.' || column_name, \
             concat(data_type, character_maximum_length, ' ', collation_name), CASE \
             WHEN is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' \
             THEN 1 ELSE 0 END), chr(10)) \
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
        Kind::MariaDb => {
            "SELECT group_concat(concat_ws('|', concat(table_name, '.', column_name), \
             concat_ws(' ', column_type, collation_name), \
             is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto%') \
             SEPARATOR '\n') \
             FROM information_schema.columns WHERE table_schema = database()"
        }
    };
    let all = database.text(all).await;
    let column = |line: &str| {
        let [name, kind, is_required] = line.split('|').collect::<Vec<_>>().try_into().unwrap();
        (String::from(name), (String::from(kind), is_required == "1"))
    };
    all.lines().map(column).collect()
}

/// Any statement of the last release runs on the new schema: it finds its columns, and its inserts
/// need no others.
async fn every_column_of_the_last_release_stays(database: TestDatabase) {
    load(&database).await;
    let before = columns(&database).await;
    migrate(&database.options(), false).await.unwrap();
    let mut after = columns(&database).await;
    assert!(before.len() > 80, "{} columns", before.len());
    for (name, (kind, is_required)) in &before {
        let (new_kind, is_now_required) = after.remove(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(&new_kind, kind, "{name}");
        assert!(*is_required || !is_now_required, "{name} must be inserted");
    }
    let tables = before.keys().filter_map(|name| name.split('.').next()).collect::<Vec<_>>();
    for (name, (_, is_required)) in after {
        let is_of_new_table = !tables.contains(&name.split('.').next().unwrap());
        assert!(is_of_new_table || !is_required, "{name} is new and must be inserted");
    }
}

async fn the_schema_of_the_last_release_is_brought_up_to_date(database: TestDatabase) {
    load(&database).await;
    let row = "INSERT INTO accounts (id, username, account_type, create_time, update_time, comment) \
               VALUES";
    for (id, username, account_type) in [(1, "admin", "admin"), (3, "alice", "user")] {
        database.execute(&format!("{row} ({id}, '{username}', '{account_type}', 1, 1, '')")).await;
    }
    database.execute("INSERT INTO settings (name, value) VALUES ('demo', 'on')").await;
    update_as_the_last_release(&database, 2).await;
    let token = "INSERT INTO service_tokens (id, name, token_hash, scopes, fields, create_time, \
                 expire_time, revoke_time, last_used_time) \
                 VALUES ('0', 'crm', '00', 'read', NULL, 1, NULL, 1, NULL)";
    database.execute(token).await;
    // A service with tokens refuses callers without a token.
    database.execute("DELETE FROM service_tokens").await;
    migrate(&database.options(), false).await.unwrap();
    let later = i64::try_from(steps().len()).unwrap() - STEPS;
    assert_eq!(applied(&database).await, [STEPS, later]);

    // Both versions write side by side.
    let app = TestApp::start(&database).await;
    app.update(set_city(3, "Kaunas")).await.unwrap();
    update_as_the_last_release(&database, 4).await;
    let stored = app.read(3).await;
    assert_eq!(
        (stored.etag.as_str(), stored.address.unwrap().city.as_deref()),
        ("3-4", Some("Bonn"))
    );
    app.update(set_city(3, "Kaunas")).await.unwrap();
    let list = ListUserDetailsChangesRequest::default();
    let changes = app.users().list_user_details_changes(list).await.unwrap().into_inner().changes;
    let etags: Vec<_> = changes.iter().map(|change| change.etag.as_str()).collect();
    assert_eq!(etags, ["3-2", "3-3", "3-4", "3-5"]);
}

/// The last release does not start if it finds an unknown step.
async fn a_new_schema_looks_to_the_last_release_like_its_own(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let last = "SELECT max(version) FROM seaql_migrations";
    assert_eq!(database.text(last).await, "m0033_change_log_service");
    assert_eq!(applied(&database).await[0], STEPS);
    update_as_the_last_release(&database, 2).await;
    assert_eq!(app.read(3).await.etag, "3-2");
}
