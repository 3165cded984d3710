//! Connection pools, configured for durable commits.

mod engine;
mod fitness;
mod servers;
mod session;
mod url;

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use sea_orm::{
    DatabaseConnection, DbErr, SqlxSqliteConnector,
    sqlx::{
        self, ConnectOptions, Connection, SqliteConnection,
        pool::PoolOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

pub(super) use self::engine::begin_syncs;
pub use self::{engine::Engine, fitness::Unfit, url::UrlError};
pub(super) use self::{
    fitness::check,
    servers::{Breakage, Connections, Lease},
};
use self::{servers::Connector, url::ServerUrl};
use super::{
    connection_limiter::PoolMetrics,
    failure::{Coded, cause},
    sqlite_url::{SqliteFile, SqliteUrlError},
    writer::writing,
};
use crate::{
    domain::error::{Cause, Error},
    telemetry::{instruments::instruments, names},
};

/// Timeout for locks, and for acquiring a connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of server connections opened in advance. Connecting with TLS takes 90 ms, because the
/// driver leaves Nagle's algorithm on.
const MIN_CONNECTIONS: u32 = 4;

/// Maximum number of SQLite read connections. Each has a thread and a page cache of 1 MB, and the
/// operating system caches the same pages.
const SQLITE_READERS: u32 = 4;

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

/// The connection pools of one database.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    pub(super) engine: Engine,
    /// Counts callers that wait for a connection. On SQLite only reads wait: one thread writes, on
    /// its own connection.
    pub(super) queue: PoolMetrics,
    source: Source,
}

/// Where connections come from.
#[derive(Clone, Debug)]
enum Source {
    /// SQLite has one writer, so reads have their own pool.
    File { read: DatabaseConnection, write: DatabaseConnection },
    /// The pool of server connections.
    Servers(Connections),
}

impl Pools {
    /// A connection for reading.
    pub(super) async fn read(&self) -> Result<Lease, Error> {
        match &self.source {
            Source::File { read, .. } => Ok(Lease::File(read.clone())),
            Source::Servers(connections) => self.lease(connections).await,
        }
    }

    /// A connection for writing.
    pub(super) async fn write(&self) -> Result<Lease, Error> {
        match &self.source {
            Source::File { write, .. } => Ok(Lease::File(write.clone())),
            Source::Servers(connections) => self.lease(connections).await,
        }
    }

    async fn lease(&self, connections: &Connections) -> Result<Lease, Error> {
        let lease = Lease::of(connections).await;
        let found_none = lease.as_ref().is_err_and(Coded::is_of_pool);
        if let (true, Some(instruments)) = (found_none, instruments()) {
            instruments.connection_timeouts(1, self.queue.pool);
        }
        Ok(lease?)
    }

    /// Has every server connection checked before its next use. Called after a timeout.
    pub(super) fn suspect(&self) {
        if let Source::Servers(connections) = &self.source {
            connections.manager().suspect();
        }
    }

    /// Connects to a server before the first calls. Ignores errors: the first calls report them.
    pub(super) async fn connect(&self) {
        if let Source::Servers(connections) = &self.source {
            let ready = (0..MIN_CONNECTIONS).map(|_| Lease::of(connections));
            for lease in futures_util::future::join_all(ready).await.into_iter().flatten() {
                lease.done();
            }
        }
    }

    /// The name of each pool, with its numbers of idle, used and maximum connections.
    pub(super) fn states(&self) -> Vec<(&'static str, [usize; 3])> {
        match &self.source {
            Source::File { read, write } => {
                let file = |pool: &DatabaseConnection| {
                    let pool = pool.get_sqlite_connection_pool();
                    let most = pool.options().get_max_connections();
                    counts(pool.num_idle(), number(pool.size()), number(most))
                };
                vec![(self.queue.pool, file(read)), ("write", file(write))]
            }
            Source::Servers(connections) => {
                let status = connections.status();
                let state = counts(status.available, status.size, status.max_size);
                vec![(self.queue.pool, state)]
            }
        }
    }

    /// Closes every connection once its current work is done.
    pub(super) async fn close(&self) {
        match &self.source {
            Source::File { read, write } => {
                for pool in [read, write] {
                    if let Err(error) = pool.close_by_ref().await {
                        tracing::warn!(%error, "a pool of connections could not be closed");
                    }
                }
            }
            Source::Servers(connections) => connections.close(),
        }
    }
}

fn number(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Idle, used and maximum. Saturates: `idle` and `size` are not read atomically.
fn counts(idle: usize, size: usize, most: usize) -> [usize; 3] {
    [idle, size.saturating_sub(idle), most]
}

/// Number of server connections for the service's internal work.
pub(super) fn own_work(connections: u32) -> u32 {
    if connections < 8 { 1 } else { 2 }
}

/// Maximum number of concurrent reads. On a server, writes and internal work keep their share of
/// the connections.
pub(super) fn readers(engine: Engine, connections: u32) -> u32 {
    match engine {
        Engine::Sqlite => connections.min(SQLITE_READERS),
        Engine::Postgres | Engine::MySql => {
            let others = writing(connections) + own_work(connections);
            connections.saturating_sub(others).max(1)
        }
    }
}

/// Creates the pools of a database. A pool connects on first use: the server may still be down.
pub(super) fn open(options: &Options) -> Result<Pools, OpenError> {
    let engine = Engine::from_url(&options.url).ok_or(UrlError::Scheme)?;
    let queue = PoolMetrics { pool: engine.pool(), waiting: Arc::default() };
    let source = if engine == Engine::Sqlite {
        let file = sqlite_options(&options.url)?.read_only(true).create_if_missing(false);
        let file = file.pragma("cache_size", "-1000");
        let readers = readers(engine, options.max_connections);
        let pool: SqlitePoolOptions = pool_options(readers);
        let read = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.connect_lazy_with(file));
        Source::File { read, write: file_writer(options)? }
    } else {
        let url = ServerUrl::read(&options.url)?;
        Source::Servers(servers::connections(url, options.max_connections))
    };
    Ok(Pools { engine, queue, source })
}

/// A pool of exactly one write connection.
pub(super) async fn single(options: &Options) -> Result<DatabaseConnection, OpenError> {
    if Engine::from_url(&options.url) == Some(Engine::Sqlite) {
        return file_writer(options);
    }
    let connector = Connector::new(ServerUrl::read(&options.url)?);
    Ok(connector.connect().await?)
}

fn file_writer(options: &Options) -> Result<DatabaseConnection, OpenError> {
    let pool: SqlitePoolOptions = pool_options(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.after_release(|connection, _| Box::pin(has_ended(connection)));
    let pool = pool.connect_lazy_with(sqlite_options(&options.url)?);
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// No ping before use: the first statement on a dead connection fails, and reveals it.
fn pool_options<D: sqlx::Database>(max_connections: u32) -> PoolOptions<D> {
    PoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
}

/// WAL with a sync on every commit: an acknowledged update survives a power loss.
fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    let file = SqliteFile::from_url(url)?;
    Ok(SqliteConnectOptions::new()
        .filename(file.path())
        .create_if_missing(file.create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .foreign_keys(true)
        .disable_statement_logging())
}

/// Whether the connection has no open transaction. If SQLite rolled back by itself, as on a full
/// disk, the driver assumes an open transaction, and cannot begin another transaction.
async fn has_ended(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // The ping waits for a pending rollback.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
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
pub(super) fn postgres_hosts(options: &Options) -> Vec<sqlx::postgres::PgConnectOptions> {
    let hosts = ServerUrl::read(&options.url).map(|url| url.hosts).unwrap_or_default();
    let postgres = |host| match host {
        url::Host::Postgres(options) => Some(options),
        url::Host::MySql(_) => None,
    };
    hosts.into_iter().filter_map(postgres).collect()
}
