//! A new field of the field table: its column and its triggers, whatever steps a database has.

use m4_user_details::{fields::Kind as FieldKind, storage::migrate_by};
use m4_user_details_migrations::{Detail, Step, details, steps, steps_with};
use sea_orm::ConnectionTrait;
use sea_orm_migration::sea_query::ColumnDef;

use crate::support::{
    database::{Kind, TestDatabase},
    on_every_engine,
};

on_every_engine!(
    a_new_database_has_the_field,
    a_database_from_before_the_triggers_gets_the_field,
    an_up_to_date_database_gets_the_field,
    replaced_triggers_are_the_same,
);

/// The first step that creates a trigger.
const FIRST_TRIGGER: &str = "m0044";

/// The steps of a version with another field.
fn with_a_field() -> Vec<Step> {
    let mut details = details();
    details.push(Detail { path: "general.scratch", kind: FieldKind::Count });
    let column = ColumnDef::new("scratch").integer().not_null().default(0).take();
    let later = vec![
        Step::column("m9001_accounts_scratch", "accounts", column),
        Step::replace_triggers("m9002_accounts_triggers"),
    ];
    steps_with(&details, later)
}

async fn a_new_database_has_the_field(database: TestDatabase) {
    has_the_field(database).await;
}

async fn a_database_from_before_the_triggers_gets_the_field(database: TestDatabase) {
    let mut earlier = steps();
    earlier.retain(|step| step.name() < FIRST_TRIGGER);
    migrate_by(&database.options(), &earlier, true).await.unwrap();
    has_the_field(database).await;
}

async fn an_up_to_date_database_gets_the_field(database: TestDatabase) {
    migrate_by(&database.options(), &steps(), true).await.unwrap();
    has_the_field(database).await;
}

async fn has_the_field(database: TestDatabase) {
    migrate_by(&database.options(), &with_a_field(), true).await.unwrap();
    database.execute("UPDATE accounts SET scratch = 7, city = 'Bonn' WHERE id = 3").await;
    let logged = "SELECT CAST(changes AS CHAR(1000)) FROM change_log";
    let logged: serde_json::Value = serde_json::from_str(&database.text(logged).await).unwrap();
    let fields: Vec<_> = logged.as_array().unwrap().iter().map(|entry| &entry["field"]).collect();
    assert_eq!(fields, ["address.city", "general.scratch"]);
    assert_eq!((&logged[1]["old"], &logged[1]["new"]), (&0.into(), &7.into()));
    let connection = database.connect().await;
    let refused = "UPDATE accounts SET scratch = -1 WHERE id = 3";
    let refused = connection.execute_unprepared(refused).await.unwrap_err().to_string();
    assert!(refused.contains("accounts.scratch holds"), "{refused}");
    connection.close().await.unwrap();
    // A second migration changes nothing.
    migrate_by(&database.options(), &with_a_field(), true).await.unwrap();
}

async fn replaced_triggers_are_the_same(database: TestDatabase) {
    migrate_by(&database.options(), &steps(), false).await.unwrap();
    let triggers = match database.kind {
        Kind::Sqlite => {
            "SELECT group_concat(sql, ';') FROM \
             (SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name)"
        }
        Kind::Postgres => {
            "SELECT string_agg(pg_get_triggerdef(t.oid) || prosrc, ';' ORDER BY tgname) \
             FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE NOT tgisinternal"
        }
        Kind::MariaDb => {
            "SELECT group_concat(trigger_name, action_timing, event_manipulation, \
             action_statement ORDER BY trigger_name) \
             FROM information_schema.triggers WHERE trigger_schema = database()"
        }
    };
    let before = database.text(triggers).await;
    let replaced = vec![Step::replace_triggers("m9001_accounts_triggers")];
    migrate_by(&database.options(), &steps_with(&details(), replaced), false).await.unwrap();
    assert_eq!(database.text(triggers).await, before);
}
