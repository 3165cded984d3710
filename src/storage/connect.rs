//! Pools of connections, set up so that what was committed stays.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::KeyValue;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, SqlxMySqlConnector,
    SqlxPostgresConnector, SqlxSqliteConnector, Statement,
    sqlx::{
        self, ConnectOptions, Executor,
        mysql::{MySqlConnectOptions, MySqlPoolOptions},
        pool::PoolOptions,
        postgres::{PgConnectOptions, PgPoolOptions},
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
    },
};

use super::{failure::cause, gate::Queue, writer::writing};
use crate::{domain::error::Cause, telemetry::names};

/// The longest that a statement waits for a lock, and a caller for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How many connections to a server are kept ready. To make one takes 90 ms where it has TLS, as the driver leaves Nagle's
/// algorithm on.
const READY: u32 = 4;

/// How many connections read a SQLite database at most: each has a thread, and 1 MB of pages in memory: the
/// system has them, too.
const SQLITE_READERS: u32 = 4;

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// SQLite, embedded.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MariaDB or MySQL.
    MySql,
}

impl Engine {
    /// The engine of a database URL, by its scheme.
    pub fn from_url(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" | "mariadb" => Some(Self::MySql),
            _ => None,
        }
    }

    /// The name of the pool of connections for which calls wait.
    pub(super) fn pool(self) -> &'static str {
        match self {
            Self::Sqlite => "read",
            Self::Postgres | Self::MySql => "all",
        }
    }

    /// The value of `db.system.name`.
    pub(super) fn semantic_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
            Self::MySql if IS_MARIADB.load(Ordering::Relaxed) => "mariadb",
            Self::MySql => "mysql",
        }
    }
}

/// Whether what looks like MySQL said that it is MariaDB; for metrics and traces only. A process has one database.
static IS_MARIADB: AtomicBool = AtomicBool::new(false);

/// Asks a server that looks like MySQL whether it is MariaDB.
pub(super) async fn learn_product(connection: &DatabaseConnection) -> Result<(), DbErr> {
    let version = Statement::from_string(DbBackend::MySql, "SELECT VERSION()");
    if let Some(row) = connection.query_one_raw(version).await? {
        let version: String = row.try_get_by_index(0)?;
        IS_MARIADB.store(version.contains("MariaDB"), Ordering::Relaxed);
    }
    Ok(())
}

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// `sqlite://FILE`, `postgres://…` or `mysql://…`. May hold a password.
    pub url: String,
    /// How many connections at most, 1 or more. SQLite has at most 4 that read, and one more that writes.
    pub max_connections: u32,
    /// How many calls may be under way at once, 1 or more; more are refused.
    pub max_in_flight: usize,
    /// How long updates on a server wait at most for as many as another transaction has under way, to share the next one.
    pub gather: Duration,
}

impl Options {
    /// How to connect to a database by default.
    pub fn of(url: String) -> Self {
        let gather = Duration::from_millis(2);
        Self { url, max_connections: 10, max_in_flight: 1024, gather }
    }
}

impl std::fmt::Debug for Options {
    /// Without the URL, which may hold a password.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = Engine::from_url(&self.url);
        formatter.debug_struct("Options").field("engine", &engine).finish_non_exhaustive()
    }
}

/// Why a database could not be opened. Names no part of the URL.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read.
    #[error("the database URL must be sqlite://FILE, postgres://… or mysql://…")]
    Url,
    /// Demo data was asked for in a database that has other data.
    #[error("the database has data of its own, so it cannot have the demo data")]
    NotDemo,
    /// The database does not answer, or its schema cannot be brought up to date.
    #[error("the database cannot be prepared")]
    Prepare(#[source] Cause),
}

impl From<DbErr> for OpenError {
    fn from(failure: DbErr) -> Self {
        Self::Prepare(cause(failure))
    }
}

/// The pools of one database.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    pub(super) engine: Engine,
    /// Of those who wait for connections to a server, or to read a SQLite database: there one thread writes, with a connection of
    /// its own.
    pub(super) queue: Queue,
    /// For reading only; on SQLite a pool of its own, as there is one writer.
    pub(super) read: DatabaseConnection,
    pub(super) write: DatabaseConnection,
}

impl Pools {
    /// Connects to a server ahead of the first calls. If it does not answer, they will tell.
    pub(super) async fn connect(&self) {
        if self.engine != Engine::Sqlite {
            let pings = (0..READY).map(|_| self.write.ping());
            futures_util::future::join_all(pings).await;
        }
    }
}

/// How many may read at once: on a server all connections but those that write.
pub(super) fn readers(engine: Engine, connections: u32) -> u32 {
    match engine {
        Engine::Sqlite => connections.min(SQLITE_READERS),
        Engine::Postgres | Engine::MySql => connections.saturating_sub(writing(connections)).max(1),
    }
}

/// The pools of a database. They connect when they are used; a server need not answer yet.
pub(super) fn open(options: &Options) -> Result<Pools, OpenError> {
    let engine = Engine::from_url(&options.url).ok_or(OpenError::Url)?;
    let queue = Queue { pool: engine.pool(), waiting: Arc::default() };
    if engine == Engine::Sqlite {
        let write = single(options)?;
        let file = sqlite_options(&options.url)?.read_only(true).create_if_missing(false);
        let file = file.pragma("cache_size", "-1000");
        let readers = readers(engine, options.max_connections);
        let pool: SqlitePoolOptions = pool_options(readers);
        let read = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.connect_lazy_with(file));
        return Ok(Pools { engine, queue, read, write });
    }
    let ready = options.max_connections.min(READY);
    let write = server(engine, &options.url, ready, options.max_connections)?;
    Ok(Pools { engine, queue, read: write.clone(), write })
}

/// A pool of exactly one connection, that may write.
pub(super) fn single(options: &Options) -> Result<DatabaseConnection, OpenError> {
    let engine = Engine::from_url(&options.url).ok_or(OpenError::Url)?;
    if engine == Engine::Sqlite {
        let pool: SqlitePoolOptions = pool_options(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.connect_lazy_with(sqlite_options(&options.url)?);
        return Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool));
    }
    server(engine, &options.url, 0, 1)
}

fn server(
    engine: Engine,
    url: &str,
    ready: u32,
    max_connections: u32,
) -> Result<DatabaseConnection, OpenError> {
    if engine == Engine::Postgres {
        let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
        let pool: PgPoolOptions = pool_options(max_connections);
        let pool = pool
            .min_connections(ready)
            .after_connect(|connection, _| {
                Box::pin(async { connection.execute(POSTGRES_SESSION).await.map(drop) })
            })
            .connect_lazy_with(options.disable_statement_logging());
        return Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool));
    }
    let options = MySqlConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    let pool: MySqlPoolOptions = pool_options(max_connections);
    let pool = pool
        .min_connections(ready)
        .after_connect(|connection, _| {
            Box::pin(async { connection.execute(MYSQL_SESSION).await.map(drop) })
        })
        .connect_lazy_with(options.charset("utf8mb4").disable_statement_logging());
    Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool))
}

/// A dead connection is noticed by the statement that fails on it, not by a ping before each use.
fn pool_options<D: sqlx::Database>(max_connections: u32) -> PoolOptions<D> {
    PoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
}

/// A commit is on disk before it is answered, whatever the server's default; and no statement waits without end.
const POSTGRES_SESSION: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SET client_min_messages = 'warning';
    SET lock_timeout = '5s';
    SET statement_timeout = '10s';
    SET idle_in_transaction_session_timeout = '30s';
    SET default_transaction_isolation = 'read committed'";

/// A row that is locked is read as of now, not as of the transaction's first statement; and what does not fit is
/// refused, not cut.
const MYSQL_SESSION: &str = "
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET SESSION innodb_lock_wait_timeout = 5, lock_wait_timeout = 5 /*M!100601 , idle_write_transaction_timeout = 20 */ /*M!100100 , max_statement_time = 10 */, sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')";

/// WAL, and every commit synced: an update that was answered survives the loss of power.
fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    // A database in memory is known to its one connection only.
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(OpenError::Url);
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        .foreign_keys(true)
        .disable_statement_logging())
}

/// The name of a database on a server, and where that is: its name or address, and its port if it is not the usual one.
pub(super) fn attributes(options: &Options) -> Vec<KeyValue> {
    let (name, host, socket, port, usual) = match Engine::from_url(&options.url) {
        Some(Engine::Postgres) => {
            let Ok(own) = PgConnectOptions::from_str(&options.url) else { return Vec::new() };
            let name = own.get_database().unwrap_or(own.get_username()).to_owned();
            (Some(name), own.get_host().to_owned(), own.get_socket().cloned(), own.get_port(), 5432)
        }
        Some(Engine::MySql) => {
            let Ok(own) = MySqlConnectOptions::from_str(&options.url) else { return Vec::new() };
            let name = own.get_database().map(str::to_owned);
            (name, own.get_host().to_owned(), own.get_socket().cloned(), own.get_port(), 3306)
        }
        Some(Engine::Sqlite) | None => return Vec::new(),
    };
    // Shared by the copies that a record makes.
    let shared = |text: String| Arc::<str>::from(text);
    let mut attributes: Vec<_> =
        name.map(|name| KeyValue::new(names::DB_NAMESPACE, shared(name))).into_iter().collect();
    if let Some(socket) = socket {
        let socket = socket.to_string_lossy().into_owned();
        attributes.push(KeyValue::new(names::SERVER_ADDRESS, shared(socket)));
        return attributes;
    }
    attributes.push(KeyValue::new(names::SERVER_ADDRESS, shared(host)));
    if port != usual {
        attributes.push(KeyValue::new(names::SERVER_PORT, i64::from(port)));
    }
    attributes
}

/// The file of a SQLite database.
pub(super) fn sqlite_file(url: &str) -> Result<String, OpenError> {
    let options = sqlite_options(url)?;
    options.get_filename().to_str().map(str::to_owned).ok_or(OpenError::Url)
}
