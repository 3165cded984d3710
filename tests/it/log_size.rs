//! The maximum size of SQLite's write-ahead log.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use chrono::DateTime;
use m4_user_details::{
    domain::{
        account::Username,
        call_context::CallContext,
        store::Store,
        update::{Actor, Edit, Edits, EntryPoint, Origin, Update},
        value::Value,
    },
    fields::Field,
    storage::SqlStore,
};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};

use crate::support::{database::TestDatabase, on_sqlite, until};

on_sqlite!(the_log_is_bounded_beside_those_who_read);

fn update(city: &str) -> Update {
    let mut edits = Edits::default();
    edits.add(Field::city, Value::text(Field::city, city.to_owned()).map(Edit::Set));
    Update {
        actor: Actor::Account(Username::parse("admin")),
        allowed: None,
        origin: Origin::of(EntryPoint::Grpc),
        user_id: 3,
        edits,
        etag: None,
        request: None,
        unchanged: Vec::new(),
        validate_only: false,
    }
}

/// The limit in `docs/operations/databases.md`.
const MOST_BYTES: u64 = 132_000_000 + 132_000_000 / 8;

async fn the_log_is_bounded_beside_those_who_read(database: TestDatabase) {
    let store = SqlStore::new(database.options()).unwrap();
    store.prepare(true).await.unwrap();
    let log = PathBuf::from(format!("{}-wal", database.url.strip_prefix("sqlite://").unwrap()));
    let size = || fs::metadata(&log).unwrap().len();
    // The reads overlap: each begins before the other ends.
    let mut readers = tokio::task::JoinSet::new();
    for begins in [0, 20] {
        let connection = database.connect().await;
        readers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(begins)).await;
            loop {
                let reading = connection.begin().await.unwrap();
                let read =
                    Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM accounts");
                reading.query_one_raw(read).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
                reading.rollback().await.unwrap();
            }
        });
    }
    // Another connection stores much, and leaves it in the log.
    let filling = database.connect().await;
    let begin =
        "PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = OFF; CREATE TABLE large (content)";
    filling.execute_unprepared(begin).await.unwrap();
    while size() < MOST_BYTES + 10_000_000 {
        let fill = "INSERT INTO large VALUES (zeroblob(4000000))";
        filling.execute_unprepared(fill).await.unwrap();
    }
    filling.execute_unprepared("DROP TABLE large").await.unwrap();
    let number = AtomicU32::new(0);
    until("the log is cut back", || async {
        let city = format!("City {}", number.fetch_add(1, Ordering::Relaxed));
        store
            .apply(
                &CallContext::default(),
                update(&city),
                DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            )
            .await
            .unwrap();
        size() <= MOST_BYTES
    })
    .await;
    assert_eq!(readers.len(), 2);
    assert!(readers.try_join_next().is_none(), "they have read all the time");
}
