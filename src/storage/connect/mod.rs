//! Connection pools, configured for durable commits.

mod check;
mod engine;
mod fitness;
mod lease;
mod login;
mod pools;
mod servers;
mod session;
mod url;

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use sea_orm::{DbErr, sqlx::postgres::PgConnectOptions};

use self::url::ServerUrl;
pub(super) use self::{
    check::check,
    engine::begin_syncs,
    lease::Lease,
    pools::{Pools, open, own_work, readers, single},
};
pub use self::{engine::Engine, fitness::Unfit, url::UrlError};
use super::{failure::cause, sqlite_url::SqliteUrlError};
use crate::{domain::error::Cause, telemetry::names};

/// Timeout for locks, and for acquiring a connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection options.
#[derive(Clone)]
pub struct Options {
    /// `sqlite://FILE`, `postgres://…` or `mysql://…`. May hold a password.
    pub url: String,
    /// Maximum number of connections, at least 1. SQLite uses up to 4 for reads, and 1 for writes.
    pub max_connections: u32,
    /// Maximum number of concurrent calls, at least 1. Further calls are refused.
    pub max_in_flight: usize,
    /// Maximum time that updates on a server wait to share the next transaction. The wait ends once
    /// as many updates wait as the open transaction has.
    pub gather: Duration,
    /// Interval between PostgreSQL snapshots while ids of the change log are missing.
    pub snapshot_interval: Duration,
}

impl Options {
    /// The default options for a database URL.
    pub fn of(url: String) -> Self {
        Self {
            url,
            max_connections: 10,
            max_in_flight: 1024,
            gather: Duration::from_millis(2),
            snapshot_interval: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for Options {
    /// Without the URL, which may hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = Engine::from_url(&self.url);
        formatter.debug_struct("Options").field("engine", &engine).finish_non_exhaustive()
    }
}

/// Why a database could not be opened. Contains no value of the URL.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be used.
    #[error("the database URL cannot be used: {0}")]
    Url(#[from] UrlError),
    /// The URL or the file of a SQLite database cannot be used.
    #[error(transparent)]
    Sqlite(#[from] SqliteUrlError),
    /// The server does not meet the service's requirements.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Demo data was requested for a database that has other data.
    #[error("the database has data of its own, so it cannot have the demo data")]
    NotDemo,
    /// A newer version made a schema change that excludes this version.
    #[error(
        "the schema of the database is that of a newer version, and this version must not run on it ({step}: {reason}): run the newer version, or restore a database of before"
    )]
    Newer {
        /// The migration.
        step: String,
        /// The newer version's reason.
        reason: String,
    },
    /// The database does not answer, or its schema cannot be brought up to date.
    #[error("the database cannot be prepared")]
    Prepare(#[source] Cause),
}

impl OpenError {
    /// Whether a retry may succeed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Prepare(_))
    }
}

impl From<DbErr> for OpenError {
    fn from(failure: DbErr) -> Self {
        Self::Prepare(cause(failure))
    }
}

/// Telemetry attributes: the database name and, for a single host, address and non-default port.
pub(super) fn attributes(options: &Options) -> Vec<KeyValue> {
    let Ok(url) = ServerUrl::read(&options.url) else { return Vec::new() };
    // `Arc`: every record clones the attributes.
    let shared = |text: String| Arc::<str>::from(text);
    let name = url.hosts.first().and_then(url::Host::database);
    let mut attributes: Vec<_> =
        name.map(|name| KeyValue::new(names::DB_NAMESPACE, shared(name))).into_iter().collect();
    let [host] = &*url.hosts else { return attributes };
    attributes.push(KeyValue::new(names::SERVER_ADDRESS, shared(host.address())));
    if let Some(port) = host.unusual_port() {
        attributes.push(KeyValue::new(names::SERVER_PORT, i64::from(port)));
    }
    attributes
}

/// The connect options of each PostgreSQL host. Empty on other engines.
pub(super) fn postgres_hosts(options: &Options) -> Vec<PgConnectOptions> {
    let hosts = ServerUrl::read(&options.url).map(|url| url.hosts).unwrap_or_default();
    let postgres = |host| match host {
        url::Host::Postgres(options) => Some(options),
        url::Host::MySql(_) => None,
    };
    hosts.into_iter().filter_map(postgres).collect()
}
