//! The storage layer, on SeaORM, for SQLite, PostgreSQL and MariaDB/MySQL.

mod change_log_length;
mod checkpoint;
mod connect;
mod connection_limiter;
mod database;
mod demo;
mod failure;
mod fault;
mod feed;
mod imported;
mod legacy_blocks;
mod legacy_clients;
mod legacy_keys;
mod listing;
mod logged;
mod migrate;
mod not_ready;
mod patience;
mod place;
mod pool_metrics;
mod probe;
mod query_telemetry;
mod settings;
mod source_database;
mod sql;
mod sqlite_connection;
mod sqlite_url;
mod sqlite_writer;
mod store;
mod sweep;
mod texts;
mod token_key;
mod tokens;
mod unknown;
mod writer;

pub use connect::{Engine, OpenError, Options, Unfit, UrlError};
pub use migrate::{migrate, migrate_by};
pub(crate) use source_database::{SourceDatabase, SourceError};
pub use sqlite_url::{SqliteUrlError, check_url, sqlite_url};
pub use store::SqlStore;

/// Limits of subscriptions, for `crate::limits`.
pub(crate) mod watch_places {
    pub(crate) use super::feed::places::{MAX_PER_CALLER, MAX_SUBSCRIPTIONS};
}
