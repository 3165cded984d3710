//! Connections to servers. Each is used by one caller at a time, checked before use where it was
//! idle, and replaced where it is of no use any more.

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
    PATIENCE, session,
    url::{Host, ServerUrl},
};
use crate::{domain::error::Error, storage::failure::breakage};

/// A connection that was idle for longer is checked before use.
const IDLE: Duration = Duration::from_secs(1);
/// How long the check of an idle connection may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a connection whose caller has gone in the middle: it may still be at work.
const INTERRUPTED_TIMEOUT: Duration = Duration::from_millis(250);
/// How often all connections are replaced at most.
const REPLACE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a connection is used at most: what a server keeps for it does not grow without end.
const LONGEST_USE: Duration = Duration::from_secs(30 * 60);
/// How long a host may take until its connection can be used where there are others. A server that
/// stands still accepts connections and says nothing. Callers wait for [`PATIENCE`] at most, and for
/// readiness only two seconds.
pub(super) const HOST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How much is wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Breakage {
    /// It is broken. The others may be, too: they are checked before use.
    Broken,
    /// What it has prepared is of no use any more, and so it is on the others that are as old.
    Stale,
    /// Its server accepts no writes. A new connection may lead to one that does.
    ReadOnly,
}

/// The connections to the servers of a URL.
pub(in crate::storage) type Connections = Pool<Connector>;

/// New [`Connections`], `max` of them at most. None is made yet.
pub(super) fn connections(url: ServerUrl, max: u32) -> Connections {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let pool = Pool::builder(Connector::new(url)).max_size(max).queue_mode(QueueMode::Fifo);
    // Fails only for timeouts of its own, which it has none.
    #[expect(
        clippy::expect_used,
        reason = "the builder fails only where it has timeouts of its own"
    )]
    pool.build().expect("no timeouts")
}

/// Makes connections, and judges old ones.
pub(in crate::storage) struct Connector {
    url: ServerUrl,
    /// Connections that were used last before are checked before use.
    suspect: Moment,
    /// Connections that were made before are replaced.
    stale: Moment,
}

/// The last time of something; none yet.
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

/// One connection: a pool of the driver that never has another one, since the driver gives
/// connections to SeaORM only so.
pub(in crate::storage) struct Slot {
    connection: DatabaseConnection,
    made: Instant,
    /// When it was last used well.
    used: Instant,
    /// Whether its last caller has gone in the middle.
    is_interrupted: bool,
}

impl Connector {
    pub(super) fn new(url: ServerUrl) -> Self {
        Self { url, suspect: Moment::default(), stale: Moment::default() }
    }

    /// Has every connection checked before its next use.
    pub(super) fn suspect(&self) {
        self.suspect.is_now();
    }

    /// Has every connection replaced; not again and again where new ones are of no use either.
    fn replace_all(&self) {
        if !self.stale.is_within(REPLACE_INTERVAL) {
            self.stale.is_now();
        }
    }

    /// Connects to the first host that can be used.
    pub(super) async fn connect(&self) -> Result<DatabaseConnection, DbErr> {
        if let [host] = &*self.url.hosts {
            return self.login(host).await;
        }
        let (mut last, mut slow) = (None, Vec::new());
        for host in &self.url.hosts {
            let login = async {
                host.reach().await?;
                self.login(host).await
            };
            match timeout(HOST_TIMEOUT, login).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = Some(error),
                Err(_) => slow.push(host),
            }
        }
        // None of the others can be used: a slow host is better than none.
        for host in slow {
            match self.login(host).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(timed_out))
    }

    /// Connects to a host that accepts writes, where that is needed.
    async fn login(&self, host: &Host) -> Result<DatabaseConnection, DbErr> {
        let connection = host.connect().await?;
        if self.url.needs_writes {
            host.check_writes(&connection).await?;
        }
        Ok(connection)
    }
}

impl Host {
    /// Whether anything answers at its address: the driver would try for longer.
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

    /// Whether the server accepts writes now.
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
        .acquire_timeout(PATIENCE)
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
        // Boxed: the compiler bounds how deeply futures nest.
        let connect: BoxFuture<'_, _> = Box::pin(self.connect());
        let connection = connect.await?;
        Ok(Slot { connection, made, used: Instant::now(), is_interrupted: false })
    }

    async fn recycle(&self, slot: &mut Slot, _: &Metrics) -> RecycleResult<DbErr> {
        if self.stale.is_after(slot.made) || slot.made.elapsed() > LONGEST_USE {
            return Err(RecycleError::message("it is old"));
        }
        let is_suspect = slot.used.elapsed() > IDLE || self.suspect.is_after(slot.used);
        if !is_suspect && !slot.is_interrupted {
            return Ok(());
        }
        let patience = if slot.is_interrupted { INTERRUPTED_TIMEOUT } else { CHECK_TIMEOUT };
        let ping: BoxFuture<'_, _> = Box::pin(slot.connection.ping());
        match timeout(patience, ping).await {
            Ok(checked) => checked?,
            Err(_) => {
                // A network that swallows packets does so with all of them.
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
        // Its own task: nobody waits for a peer that may have vanished.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { timeout(CLOSE_TIMEOUT, connection.close_by_ref()).await });
        }
    }
}

/// A connection that is used until this is dropped.
pub(in crate::storage) enum Lease {
    /// To a file: of a pool of the driver.
    File(DatabaseConnection),
    /// To a server.
    Server(Leased),
}

/// A connection to a server that is used until this is dropped.
pub(in crate::storage) struct Leased {
    /// None only while it is dropped.
    slot: Option<managed::Object<Connector>>,
    connection: DatabaseConnection,
    is_done: bool,
    is_useless: AtomicBool,
}

impl Lease {
    /// A free connection, or a new one.
    pub(super) async fn of(pool: &Connections) -> Result<Self, DbErr> {
        let slot = timeout(PATIENCE, pool.get()).await.map_err(|_| timed_out())?;
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

    /// Every statement on it was answered. After a drop without that it is checked before its next
    /// use.
    pub(in crate::storage) fn done(mut self) {
        if let Self::Server(leased) = &mut self {
            leased.is_done = true;
        }
    }

    /// Has it replaced once it is dropped.
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

    /// The outcome of a statement on it, which may show that it is of no use any more.
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
