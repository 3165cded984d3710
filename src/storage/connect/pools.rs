//! Connection pools.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection, SqlxSqliteConnector,
    sqlx::{
        self, ConnectOptions, Connection, SqliteConnection,
        pool::PoolOptions,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

use super::{
    ACQUIRE_TIMEOUT, Engine, Lease, OpenError, Options, UrlError,
    servers::{self, Connections, Connector},
    url::ServerUrl,
};
use crate::{
    domain::error::Error,
    storage::{
        connection_limiter::PoolMetrics, failure::Coded, sqlite_connection::LOG_PAGES,
        sqlite_url::SqliteFile,
    },
    telemetry::instruments::instruments,
};

/// Number of server connections opened in advance. Connecting with TLS takes 90 ms, because the
/// driver leaves Nagle's algorithm on.
const MIN_CONNECTIONS: u32 = 4;

/// Maximum number of SQLite read connections. Each has a thread and a page cache of 1 MB, and the
/// operating system caches the same pages.
const SQLITE_READERS: u32 = 4;

/// Concurrent group transactions on a server. A third one makes each group smaller and lowers
/// throughput.
pub(in crate::storage) const WRITERS: u32 = 2;

/// The connection pools of one database.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Pools {
    pub(in crate::storage) engine: Engine,
    /// Counts callers that wait for a connection. On SQLite only reads wait: one thread writes, on
    /// its own connection.
    pub(in crate::storage) queue: PoolMetrics,
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
    pub(in crate::storage) async fn read(&self) -> Result<Lease, Error> {
        match &self.source {
            Source::File { read, .. } => Ok(Lease::File(read.clone())),
            Source::Servers(connections) => self.lease(connections).await,
        }
    }

    /// A connection for writing.
    pub(in crate::storage) async fn write(&self) -> Result<Lease, Error> {
        match &self.source {
            Source::File { write, .. } => Ok(Lease::File(write.clone())),
            Source::Servers(connections) => self.lease(connections).await,
        }
    }

    async fn lease(&self, connections: &Connections) -> Result<Lease, Error> {
        let lease = Lease::of(connections).await;
        let found_none = lease.as_ref().is_err_and(Coded::is_of_pool);
        if let (true, Some(instruments)) = (found_none, instruments()) {
            instruments.connections.timed_out(1, self.queue.pool);
        }
        Ok(lease?)
    }

    /// Has every server connection checked before its next use. Called after a timeout.
    pub(in crate::storage) fn suspect(&self) {
        if let Source::Servers(connections) = &self.source {
            connections.manager().suspect();
        }
    }

    /// Connects to a server before the first calls. Ignores errors: the first calls report them.
    pub(in crate::storage) async fn connect(&self) {
        if let Source::Servers(connections) = &self.source {
            let ready = (0..MIN_CONNECTIONS).map(|_| Lease::of(connections));
            for lease in futures_util::future::join_all(ready).await.into_iter().flatten() {
                lease.done();
            }
        }
    }

    /// The name of each pool, with its numbers of idle, used and maximum connections.
    pub(in crate::storage) fn states(&self) -> Vec<(&'static str, [usize; 3])> {
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
    pub(in crate::storage) async fn close(&self) {
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
pub(in crate::storage) fn own_work(connections: u32) -> u32 {
    if connections < 8 { 1 } else { 2 }
}

/// The maximum number of concurrent writing connections to a server.
pub(in crate::storage) fn writing(connections: u32) -> u32 {
    WRITERS + (connections / 4).max(1)
}

/// Maximum number of concurrent reads. On a server, writes and internal work keep their share of
/// the connections.
pub(in crate::storage) fn readers(engine: Engine, connections: u32) -> u32 {
    match engine {
        Engine::Sqlite => connections.min(SQLITE_READERS),
        Engine::Postgres | Engine::MySql => {
            let others = writing(connections) + own_work(connections);
            connections.saturating_sub(others).max(1)
        }
    }
}

/// Creates the pools of a database. A pool connects on first use: the server may still be down.
pub(in crate::storage) fn open(options: &Options) -> Result<Pools, OpenError> {
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
pub(in crate::storage) async fn single(options: &Options) -> Result<DatabaseConnection, OpenError> {
    if Engine::from_url(&options.url) == Some(Engine::Sqlite) {
        return file_writer(options);
    }
    let connector = Connector::new(ServerUrl::read(&options.url)?);
    Ok(connector.connect().await?)
}

/// A pool of exactly one connection for inspection. On SQLite it is read-only, and neither creates
/// the file nor changes its journal mode.
pub(in crate::storage) async fn read_only(
    options: &Options,
) -> Result<DatabaseConnection, OpenError> {
    if Engine::from_url(&options.url) != Some(Engine::Sqlite) {
        return single(options).await;
    }
    let file = SqliteConnectOptions::new()
        .filename(SqliteFile::from_url(&options.url)?.path())
        .read_only(true)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .disable_statement_logging();
    let pool: SqlitePoolOptions = pool_options(1).idle_timeout(None).max_lifetime(None);
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.connect_lazy_with(file)))
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
        // As on the writer: only its helper runs checkpoints.
        .pragma("wal_autocheckpoint", LOG_PAGES.to_string())
        .disable_statement_logging())
}

/// Whether the connection has no open transaction. If SQLite rolled back by itself, as on a full
/// disk, the driver assumes an open transaction, and cannot begin another transaction.
async fn has_ended(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // The ping waits for a pending rollback.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}
