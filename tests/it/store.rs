//! The store, unchanged on every engine.

use m4_user_details::storage::SqlStore;

use crate::support::{
    app::TestApp,
    database::{Kind, TestDatabase},
    on_every_engine,
};

on_every_engine!(every_commit_is_durable);

async fn every_commit_is_durable(database: TestDatabase) {
    let store = SqlStore::new(database.options()).unwrap();
    store.prepare(false).await.unwrap();
    let settings = store.durability().await.unwrap();
    let expected: &[(&str, &str)] = match database.kind {
        Kind::Sqlite => &[("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")],
        Kind::Postgres => {
            &[("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")]
        }
        Kind::MariaDb => &[("innodb_flush_log_at_trx_commit", "1"), ("innodb_doublewrite", "ON")],
    };
    let settings: Vec<_> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(settings, expected);
    store.close().await;
    let app = TestApp::start(&database).await;
    assert_eq!(app.read(3).await.username, "alice");
    app.stop().await.unwrap();
}
