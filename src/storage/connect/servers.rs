//! Connections to servers, each for one caller at a time. Idle connections are checked before use,
//! unusable connections are replaced.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use deadpool::managed::{Manager, Metrics, Pool, QueueMode, RecycleError, RecycleResult};
use futures_util::future::BoxFuture;
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr, sqlx};
use tokio::time::timeout;

use super::{
    OpenError,
    fitness::check_server,
    login::timed_out,
    url::{Host, ServerUrl},
};
use crate::{domain::error::chain, storage::failure::Breakage};

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
    /// Whether hosts are checked by [`check_server`] before their first use.
    checks_hosts: bool,
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
    pub(super) connection: DatabaseConnection,
    made: Instant,
    /// When the connection was last used or checked.
    pub(super) used: Instant,
    /// Whether the last caller was dropped before [`super::Lease::done`].
    pub(super) is_interrupted: bool,
}

impl Connector {
    /// A connector that checks each of several hosts. The check at start sees one host.
    pub(super) fn new(url: ServerUrl) -> Self {
        Self { checks_hosts: url.hosts.len() > 1, ..Self::unchecked(url) }
    }

    /// A connector whose caller runs [`check_server`].
    pub(super) fn unchecked(url: ServerUrl) -> Self {
        Self { url, checks_hosts: false, suspect: Moment::default(), stale: Moment::default() }
    }

    /// Has every connection checked before its next use.
    pub(super) fn suspect(&self) {
        self.suspect.is_now();
    }

    /// Has connections replaced or checked after a failure.
    pub(super) fn note(&self, breakage: Breakage) {
        match breakage {
            Breakage::Broken => self.suspect(),
            Breakage::Stale => self.stale.is_now(),
            Breakage::ReadOnly => self.replace_all(),
        }
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
        // No other host is usable: try the slow hosts without this timeout.
        for host in slow {
            match self.login(host).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(timed_out))
    }

    /// Connects to a host. Fails on an unfit host, and on a read-only host if the URL needs writes.
    async fn login(&self, host: &Host) -> Result<DatabaseConnection, DbErr> {
        let connection = host.connect().await?;
        if self.url.needs_writes {
            host.check_writes(&connection).await?;
        }
        if self.checks_hosts && !fit_hosts().contains(&host.place()) {
            let fitness = check_server(&connection).await.map_err(|error| {
                let text = format!("{}: {}", host.address(), chain(&error));
                DbErr::Conn(match error {
                    OpenError::Unfit(_) => RuntimeErr::Internal(text),
                    _ => RuntimeErr::SqlxError(sqlx::Error::Protocol(text).into()),
                })
            })?;
            fitness.log();
            fit_hosts().insert(host.place());
        }
        Ok(connection)
    }
}

/// The address and port of each host that passed [`check_server`] in this process.
fn fit_hosts() -> MutexGuard<'static, BTreeSet<(String, u16)>> {
    static FIT_HOSTS: Mutex<BTreeSet<(String, u16)>> = Mutex::new(BTreeSet::new());
    FIT_HOSTS.lock().unwrap_or_else(PoisonError::into_inner)
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
            return Err(RecycleError::message("the connection is too old"));
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
                return Err(RecycleError::message("the connection does not respond"));
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
