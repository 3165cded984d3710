//! Connections to servers, each for one caller at a time. Idle connections are checked before use,
//! unusable connections are replaced.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::{self, Manager, Metrics, Pool, QueueMode, RecycleError, RecycleResult};
use futures_util::future::BoxFuture;
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr, SqlxMySqlConnector,
    SqlxPostgresConnector, Statement,
    sqlx::{self, mysql::MySqlPoolOptions, pool::PoolOptions, postgres::PgPoolOptions},
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    ACQUIRE_TIMEOUT,
    fitness::check_server,
    session,
    url::{Host, ServerUrl},
};
use crate::{domain::error::Error, storage::failure::breakage};

/// Idle time after which a connection is checked before use.
const CHECK_AFTER_IDLE: Duration = Duration::from_secs(1);
/// Timeout for the check of an idle connection.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout for the check of an interrupted connection: it may still run a statement.
const INTERRUPTED_TIMEOUT: Duration = Duration::from_millis(250);
/// Minimum time between two replacements by [`Connector::replace_all`].
const REPLACE_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum age of a connection: bounds the memory that a server keeps per session.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// Timeout for connecting to one of several hosts. A frozen server accepts connections but does not
/// answer. Calls wait at most [`ACQUIRE_TIMEOUT`], and readiness probes two seconds.
pub(super) const HOST_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeout for closing a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Breakage {
    /// The connection is broken. Other connections may be broken too, and are checked before use.
    Broken,
    /// Prepared statements are invalid, on this connection and on all other existing connections.
    Stale,
    /// The server is read-only. A new connection may reach a writable server.
    ReadOnly,
}

/// The connection pool for the servers of a URL.
pub(in crate::storage) type Connections = Pool<Connector>;

/// Creates a pool of at most `max` connections. Opens none yet.
pub(super) fn connections(url: ServerUrl, max: u32) -> Connections {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let pool = Pool::builder(Connector::new(url)).max_size(max).queue_mode(QueueMode::Fifo);
    #[expect(
        clippy::expect_used,
        reason = "the builder fails only where it has timeouts of its own"
    )]
    pool.build().expect("no timeouts")
}

/// Creates connections, and checks pooled connections before reuse.
pub(in crate::storage) struct Connector {
    url: ServerUrl,
    /// Whether each host passed [`check_server`].
    fit: Vec<AtomicBool>,
    /// Connections last used before this moment are checked before use.
    suspect: Moment,
    /// Connections created before this moment are replaced.
    stale: Moment,
}

/// The last time of an event. `None` before the first event.
#[derive(Default)]
struct Moment(Mutex<Option<Instant>>);

impl Moment {
    fn is_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_after(&self, time: Instant) -> bool {
        self.get().is_some_and(|moment| moment >= time)
    }

    fn is_within(&self, duration: Duration) -> bool {
        self.get().is_some_and(|moment| moment.elapsed() < duration)
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, as a driver pool of size 1: SeaORM takes the driver's connections only as pools.
pub(in crate::storage) struct Slot {
    connection: DatabaseConnection,
    made: Instant,
    /// When the connection was last used or checked.
    used: Instant,
    /// Whether the last caller was dropped before [`Lease::done`].
    is_interrupted: bool,
}

impl Connector {
    /// A connector that checks each of several hosts once. The check at start sees one host.
    pub(super) fn new(url: ServerUrl) -> Self {
        let is_fit = url.hosts.len() == 1;
        Self::with(url, is_fit)
    }

    /// A connector whose caller runs [`check_server`].
    pub(super) fn unchecked(url: ServerUrl) -> Self {
        Self::with(url, true)
    }

    fn with(url: ServerUrl, is_fit: bool) -> Self {
        let fit = url.hosts.iter().map(|_| AtomicBool::new(is_fit)).collect();
        Self { url, fit, suspect: Moment::default(), stale: Moment::default() }
    }

    /// Has every connection checked before its next use.
    pub(super) fn suspect(&self) {
        self.suspect.is_now();
    }

    /// Replaces every connection, at most once per [`REPLACE_INTERVAL`]: new connections may be
    /// unusable too.
    fn replace_all(&self) {
        if !self.stale.is_within(REPLACE_INTERVAL) {
            self.stale.is_now();
        }
    }

    /// Connects to the first usable host.
    pub(super) async fn connect(&self) -> Result<DatabaseConnection, DbErr> {
        let hosts = self.url.hosts.iter().zip(&self.fit);
        if self.url.hosts.len() == 1
            && let Some((host, is_fit)) = hosts.clone().next()
        {
            return self.login(host, is_fit).await;
        }
        let (mut last, mut slow) = (None, Vec::new());
        for (host, is_fit) in hosts {
            let login = async {
                host.reach().await?;
                self.login(host, is_fit).await
            };
            match timeout(HOST_TIMEOUT, login).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = Some(error),
                Err(_) => slow.push((host, is_fit)),
            }
        }
        // No other host is usable: try the slow hosts without this timeout.
        for (host, is_fit) in slow {
            match self.login(host, is_fit).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(timed_out))
    }

    /// Connects to a host. Fails on an unfit host, and on a read-only host if the URL needs writes.
    async fn login(&self, host: &Host, is_fit: &AtomicBool) -> Result<DatabaseConnection, DbErr> {
        let connection = host.connect().await?;
        if self.url.needs_writes {
            host.check_writes(&connection).await?;
        }
        if !is_fit.load(Ordering::Relaxed) {
            check_server(&connection).await.map_err(|error| {
                DbErr::Conn(RuntimeErr::Internal(format!("{}: {error}", host.address())))
            })?;
            is_fit.store(true, Ordering::Relaxed);
        }
        Ok(connection)
    }
}

impl Host {
    /// Checks that the host accepts TCP connections: the driver would retry for longer.
    async fn reach(&self) -> Result<(), DbErr> {
        let (socket, host, port) = match self {
            Self::Postgres(options) => {
                (options.get_socket(), options.get_host(), options.get_port())
            }
            Self::MySql(options) => (options.get_socket(), options.get_host(), options.get_port()),
        };
        if socket.is_some() {
            return Ok(());
        }
        let host = host.trim_matches(['[', ']']);
        let reached = TcpStream::connect((host, port)).await;
        reached.map(drop).map_err(|error| failed(error.into()))
    }

    async fn connect(&self) -> Result<DatabaseConnection, DbErr> {
        match self {
            Self::Postgres(host) => {
                let pool: PgPoolOptions = one();
                let pool =
                    pool.after_connect(|connection, _| Box::pin(session::postgres(connection)));
                let pool = pool.connect_with(host.clone()).await.map_err(failed)?;
                Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
            }
            Self::MySql(host) => {
                let pool: MySqlPoolOptions = one();
                let pool = pool.after_connect(|connection, _| Box::pin(session::mysql(connection)));
                let pool = pool.connect_with(host.clone()).await.map_err(failed)?;
                Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool))
            }
        }
    }

    /// Fails if the server is read-only.
    async fn check_writes(&self, connection: &DatabaseConnection) -> Result<(), DbErr> {
        let query = match self {
            Self::Postgres(_) => {
                "SELECT CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN 1 ELSE 0 END"
            }
            Self::MySql(_) => "SELECT CAST(@@global.read_only AS SIGNED)",
        };
        let query = Statement::from_string(connection.get_database_backend(), query);
        let row = connection.query_one_raw(query).await?;
        let is_read_only = match (self, row) {
            (Self::Postgres(_), Some(row)) => row.try_get_by_index::<i32>(0)? != 0,
            (Self::MySql(_), Some(row)) => row.try_get_by_index::<i64>(0)? != 0,
            (_, None) => true,
        };
        if is_read_only {
            return Err(DbErr::Conn(RuntimeErr::Internal("the server accepts no writes".into())));
        }
        Ok(())
    }
}

fn one<D: sqlx::Database>() -> PoolOptions<D> {
    PoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

fn failed(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => timed_out(),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}

fn timed_out() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)
}

impl Manager for Connector {
    type Type = Slot;
    type Error = DbErr;

    async fn create(&self) -> Result<Slot, DbErr> {
        let made = Instant::now();
        // Boxed: the compiler limits the nesting of futures.
        let connect: BoxFuture<'_, _> = Box::pin(self.connect());
        let connection = connect.await?;
        Ok(Slot { connection, made, used: Instant::now(), is_interrupted: false })
    }

    async fn recycle(&self, slot: &mut Slot, _: &Metrics) -> RecycleResult<DbErr> {
        if self.stale.is_after(slot.made) || slot.made.elapsed() > MAX_CONNECTION_AGE {
            return Err(RecycleError::message("it is old"));
        }
        let is_suspect = slot.used.elapsed() > CHECK_AFTER_IDLE || self.suspect.is_after(slot.used);
        if !is_suspect && !slot.is_interrupted {
            return Ok(());
        }
        let patience = if slot.is_interrupted { INTERRUPTED_TIMEOUT } else { CHECK_TIMEOUT };
        let ping: BoxFuture<'_, _> = Box::pin(slot.connection.ping());
        match timeout(patience, ping).await {
            Ok(checked) => checked?,
            Err(_) => {
                // A network that drops packets affects every connection.
                if !slot.is_interrupted {
                    self.replace_all();
                }
                return Err(RecycleError::message("it does not answer"));
            }
        }
        (slot.used, slot.is_interrupted) = (Instant::now(), false);
        Ok(())
    }

    fn detach(&self, slot: &mut Slot) {
        let connection = slot.connection.clone();
        // In its own task: callers must not wait for a peer that may be gone.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { timeout(CLOSE_TIMEOUT, connection.close_by_ref()).await });
        }
    }
}

/// A connection leased until drop.
pub(in crate::storage) enum Lease {
    /// A connection to a file, from a driver pool.
    File(DatabaseConnection),
    /// A connection to a server.
    Server(Leased),
}

/// A server connection leased until drop.
pub(in crate::storage) struct Leased {
    /// `None` only during drop.
    slot: Option<managed::Object<Connector>>,
    connection: DatabaseConnection,
    is_done: bool,
    is_useless: AtomicBool,
}

impl Lease {
    /// Acquires an idle connection, or creates one.
    pub(super) async fn of(pool: &Connections) -> Result<Self, DbErr> {
        let slot = timeout(ACQUIRE_TIMEOUT, pool.get()).await.map_err(|_| timed_out())?;
        let slot = slot.map_err(|error| match error {
            managed::PoolError::Backend(error) => error,
            managed::PoolError::Closed => {
                DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
            }
            _ => timed_out(),
        })?;
        let (connection, is_useless) = (slot.connection.clone(), AtomicBool::new(false));
        Ok(Self::Server(Leased { slot: Some(slot), connection, is_done: false, is_useless }))
    }

    /// Ends the lease after every statement was answered. A connection dropped without `done` is
    /// checked before its next use.
    pub(in crate::storage) fn done(mut self) {
        if let Self::Server(leased) = &mut self {
            leased.is_done = true;
        }
    }

    /// Has the connection replaced after drop.
    pub(in crate::storage) fn fails(&self, breakage: Breakage) {
        let Self::Server(leased) = self else { return };
        leased.is_useless.store(true, Ordering::Relaxed);
        let pool = leased.slot.as_ref().and_then(managed::Object::pool);
        if let Some(connector) = pool.as_ref().map(Pool::manager) {
            match breakage {
                Breakage::Broken => connector.suspect(),
                Breakage::Stale => connector.stale.is_now(),
                Breakage::ReadOnly => connector.replace_all(),
            }
        }
    }

    /// Returns `outcome`. If its error is a [`Breakage`], has the connection replaced.
    pub(in crate::storage) fn note<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Some(breakage) = outcome.as_ref().err().and_then(breakage) {
            self.fails(breakage);
        }
        outcome
    }
}

impl Deref for Lease {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        match self {
            Self::File(connection) => connection,
            Self::Server(leased) => &leased.connection,
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else { return };
        if self.is_useless.load(Ordering::Relaxed) {
            drop(managed::Object::take(slot));
            return;
        }
        slot.is_interrupted = !self.is_done;
        slot.used = Instant::now();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Slot").field("made", &self.made).finish_non_exhaustive()
    }
}

impl fmt::Debug for Connector {
    /// Without the URL, which may hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connector").finish_non_exhaustive()
    }
}
