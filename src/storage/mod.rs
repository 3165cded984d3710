//! The storage layer, on SeaORM, for SQLite, PostgreSQL and MariaDB/MySQL.

mod backup;
mod change_log_length;
mod checkpoint;
mod clock_difference;
mod connect;
mod connection_limiter;
mod consistent_read;
mod database;
mod demo;
mod epoch;
mod examination;
mod export;
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
mod verification;
mod writer;

pub use self::demo::ACCOUNTS as DEMO_ACCOUNTS;
pub use backup::{BackupError, backup, restore};
pub use connect::{Engine, OpenError, Options, Unfit, UrlError};
pub use examination::{Examination, examine};
pub use export::{ExportError, Exported, ExportedAccount, export_accounts, export_change_log};
pub use migrate::{
    PlannedStep, Progress, Report, StepState, migrate, migrate_by, migrate_with, plan,
};
pub(crate) use source_database::{SourceDatabase, SourceError};
pub use sqlite_url::{SqliteUrlError, check_url, sqlite_url};
pub use store::SqlStore;
pub use verification::{Verified, verify};

/// Limits of subscriptions, for `crate::limits`.
pub(crate) mod watch_places {
    pub(crate) use super::feed::places::{MAX_PER_CALLER, MAX_SUBSCRIPTIONS};
}
