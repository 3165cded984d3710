//! Fills a database with rows that the server generates.

use std::ops::Range;

use indicatif::{ProgressBar, ProgressStyle};
use sea_orm::{DatabaseConnection, DbBackend};

use crate::{
    limit::CHANGES,
    sql::{connect, execute},
    users::FIRST_ID,
};

/// Number of rows per transaction.
const AT_ONCE: i64 = 100_000;
/// 2026-01-01 00:00:00 UTC, in microseconds.
const CREATED: i64 = 1_767_225_600_000_000;

/// Inserts users and their change log entries.
pub(crate) async fn fill(url: &str, name: &str, users: i64, log_rows: i64) {
    let database = connect(url).await;
    let backend = database.get_database_backend();
    // Generated rows have valid references and need not survive a crash.
    execute(
        &database,
        match backend {
            DbBackend::Postgres => {
                "SET synchronous_commit = off; SET session_replication_role = replica"
            }
            DbBackend::Sqlite => "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF",
            _ => "SET SESSION foreign_key_checks = 0, unique_checks = 0",
        },
    )
    .await;
    let joined = |before: &str, after: &str| match backend {
        DbBackend::MySql => format!("CONCAT('{before}', id, '{after}')"),
        _ => format!("'{before}' || id || '{after}'"),
    };
    let accounts = format!(
        "INSERT INTO accounts (id, username, account_type, create_time, update_time, currency_id, \
         responsible_manager_id, first_name, last_name, address, city, email, comment) \
         SELECT id, {}, 'user', {CREATED}, {CREATED}, 1, 2, {}, {}, {}, {}, {}, {} FROM",
        joined("user ", ""),
        joined("First ", ""),
        joined("Last ", ""),
        joined("Street ", ""),
        joined("City ", ""),
        joined("user", "@example.com"),
        joined("A comment of user ", "."),
    );
    let label = format!("{name}: users");
    insert(&database, &label, &accounts, FIRST_ID..FIRST_ID + users).await;
    // The prime spreads entries over the users, like real changes.
    let change_log = format!(
        "INSERT INTO change_log (user_id, version, change_time, actor_id, service, door, changes) \
         SELECT {FIRST_ID} + (id * 7919) % {users}, 2, {CREATED} + id, 1, NULL, 'legacy', '{CHANGES}' FROM"
    );
    insert(&database, &format!("{name}: log"), &change_log, 1..1 + log_rows).await;
    // Finish deferred work now, so that it does not slow the measured runs.
    let rest: &[&str] = match backend {
        DbBackend::Postgres => &["VACUUM ANALYZE accounts, change_log", "CHECKPOINT"],
        DbBackend::Sqlite => &["PRAGMA wal_checkpoint(TRUNCATE)"],
        _ => &["ANALYZE TABLE accounts, change_log"],
    };
    for sql in rest {
        execute(&database, sql).await;
    }
    database.close().await.unwrap();
}

/// Inserts one row per id, with progress on standard error.
async fn insert(database: &DatabaseConnection, label: &str, insert: &str, ids: Range<i64>) {
    let style = "{msg} {wide_bar} {human_pos} of {human_len}, {eta} left";
    let progress = ProgressBar::new(u64::try_from(ids.end - ids.start).unwrap())
        .with_style(ProgressStyle::with_template(style).unwrap())
        .with_message(label.to_owned());
    let mut first = ids.start;
    while first < ids.end {
        let last = (first + AT_ONCE).min(ids.end) - 1;
        let rows = match database.get_database_backend() {
            DbBackend::Postgres => format!("generate_series({first}::bigint, {last}) AS ids (id)"),
            DbBackend::Sqlite => format!(
                "(WITH RECURSIVE ids (id) AS (SELECT {first} UNION ALL SELECT id + 1 FROM ids \
                 WHERE id < {last}) SELECT id FROM ids)"
            ),
            // MariaDB's engine SEQUENCE generates this table.
            _ => format!("(SELECT seq AS id FROM seq_{first}_to_{last}) AS ids"),
        };
        execute(database, &format!("{insert} {rows}")).await;
        progress.inc(u64::try_from(last + 1 - first).unwrap());
        first = last + 1;
    }
    progress.finish();
}
