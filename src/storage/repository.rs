//! The SQL implementation of [`Store`].

mod change_log_reads;
mod read_session;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, sqlx::postgres::PgConnectOptions};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    connect::{self, Engine, Lease, OpenError, Options, Pools, open, readers},
    connection_limiter::{ConnectionLimiter, ConnectionPermit},
    failure::{Failure, breakage, unanswered},
    fault,
    feed::{Feed, Wake},
    migrate::{check_schema, migrate},
    place::Place,
    pool_metrics,
    probe::Probe,
    query_telemetry::{self, own_statement},
    settings,
    sql::{
        statements::RowLock,
        transaction::{self, Atomicity},
    },
    sqlite_url::{SqliteFile, check_file},
    sweep::sweep,
    token_key,
    writer::{Pending, Writers},
};
use crate::{
    domain::{
        account::User,
        call_context::CallContext,
        error::{Error, chain},
        listing::{ChangeQuery, Listed, LoggedChange, UserQuery},
        page_token::TokenKey,
        readiness::{Fault, NotReady},
        rules::{self, Visibility},
        settings::Settings,
        snapshot::{LoadPlan, Snapshot},
        store::Store,
        update::{Actor, Update, Updated},
        watch::{Position, SubscriptionFilter, Watch, WatchBudget},
    },
    trace::Span,
};

/// Timeout for `BEGIN` on a server: `BEGIN` waits for no lock there.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The [`Store`] on a SQL database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    options: Options,
    database: Arc<Database>,
    /// Permits for concurrent calls.
    room: Arc<Semaphore>,
    /// Set once the schema is up to date.
    writers: Arc<OnceLock<Writers>>,
    feed: Arc<Feed>,
    token_key: Arc<OnceCell<TokenKey>>,
    /// The fault of the last failed `prepare`, if known.
    unprepared: Arc<Mutex<Option<Fault>>>,
}

impl SqlStore {
    /// Creates a store. Calls fail until [`Self::prepare`] succeeds.
    ///
    /// # Errors
    /// [`OpenError::Url`], [`OpenError::Sqlite`].
    pub fn new(options: Options) -> Result<Self, OpenError> {
        check_file(&options.url)?;
        let pools = open(&options)?;
        pool_metrics::observe(&pools);
        query_telemetry::tell_database(connect::attributes(&options));
        let readers = readers(pools.engine, options.max_connections);
        let reading = ConnectionLimiter::new(readers, pools.queue.clone());
        let own_work =
            ConnectionLimiter::new(connect::own_work(options.max_connections), pools.queue.clone());
        let wake = Wake::default();
        let place = match pools.engine {
            Engine::Sqlite => Some(Arc::new(Place::new(&SqliteFile::from_url(&options.url)?))),
            Engine::Postgres | Engine::MySql => None,
        };
        let probe = Probe::new(options.clone());
        let database = Arc::new(Database {
            options: options.clone(),
            pools,
            place,
            probe,
            reading,
            own_work,
            wake,
        });
        let feed = Arc::new(Feed::new(Arc::clone(&database)));
        let room = Arc::new(Semaphore::new(options.max_in_flight));
        let (writers, token_key, unprepared) = Default::default();
        Ok(Self { options, database, room, writers, feed, token_key, unprepared })
    }

    /// Migrates the schema. With `demo`, inserts the demo data if the database has no account.
    ///
    /// # Errors
    /// The errors of [`migrate`]. The store then stays unprepared.
    pub async fn prepare(&self, demo: bool) -> Result<(), OpenError> {
        if let Err(error) = migrate(&self.options, demo).await {
            let fault = match &error {
                OpenError::Prepare(cause) => fault::of_cause(cause),
                _ => None,
            };
            *self.unprepared.lock().unwrap_or_else(PoisonError::into_inner) = fault;
            return Err(error);
        }
        self.database.pools.connect().await;
        self.attach();
        if let Err(error) = self.token_key(&CallContext::default()).await {
            // The first call that needs the key reads it again.
            tracing::warn!(error = chain(&error), "the token key could not be read");
        }
        Ok(())
    }

    /// Opens a database whose schema is already up to date.
    ///
    /// # Errors
    /// [`OpenError::Unfit`], [`OpenError::Newer`], [`OpenError::Prepare`].
    pub async fn open_existing(options: Options) -> Result<Self, OpenError> {
        let store = Self::new(options)?;
        check_schema(&store.options).await?;
        store.attach();
        Ok(store)
    }

    /// Starts the writers. Assumes that the schema is up to date.
    pub fn attach(&self) {
        self.writers.get_or_init(|| Writers::start(&self.database, &self.options));
    }

    /// The database engine.
    pub fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// The durability settings of a write connection, as pairs of name and value.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn durability(&self) -> Result<Vec<(String, String)>, Error> {
        self.prepared()?.durability().await
    }

    /// Deletes stored responses older than 24 hours, and change log entries older than `keep_log`
    /// (`None` keeps all entries).
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn sweep(
        &self,
        now: DateTime<Utc>,
        keep_log: Option<TimeDelta>,
    ) -> Result<(), Error> {
        sweep(self.prepared()?, now, keep_log).await
    }

    /// Waits until every admitted call has ended. Admits no further call.
    pub async fn finish(&self) {
        let all = u32::try_from(self.options.max_in_flight).unwrap_or(u32::MAX);
        // Fails only if `finish` was called before.
        let _ = self.room.acquire_many(all).await;
        self.room.close();
    }

    /// Closes every connection once its current work is done.
    pub async fn close(self) {
        self.database.pools.close().await;
        self.database.probe.close().await;
    }

    /// The memory budget of subscriptions.
    pub fn watch_budget(&self) -> &Arc<WatchBudget> {
        self.feed.budget()
    }

    /// Acquires the permit for one call, without waiting.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| Error::Overloaded)
    }

    fn unprepared(&self) -> Fault {
        let fault = self.unprepared.lock().unwrap_or_else(PoisonError::into_inner);
        fault.unwrap_or(Fault::NotPrepared)
    }

    /// The database, once its schema is up to date.
    pub(super) fn prepared(&self) -> Result<&Database, Error> {
        self.writers.get().map(|_| &*self.database).ok_or_else(not_prepared)
    }
}

fn not_prepared() -> Error {
    Error::Unavailable("the database is not prepared yet".into())
}

#[async_trait]
impl Store for SqlStore {
    fn room(&self) -> usize {
        self.options.max_in_flight
    }

    async fn apply(
        &self,
        call: &CallContext,
        update: Update,
        now: DateTime<Utc>,
    ) -> Result<Updated, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        writers.apply(call.clone(), update, now, self.admit()?).await
    }

    async fn apply_all(
        &self,
        call: &CallContext,
        updates: Vec<Update>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Updated>, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        writers.apply_all(call.clone(), updates, now, self.admit()?).await
    }

    async fn read(&self, call: &CallContext, actor: &Actor, user_id: i64) -> Result<User, Error> {
        let _room = self.admit()?;
        let mut plan = LoadPlan::default();
        plan.add_read(actor, user_id);
        let snapshot = self.prepared()?.load(call, &plan).await?;
        rules::read(actor, user_id, &snapshot).cloned()
    }

    async fn list(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &UserQuery,
    ) -> Result<Listed<User>, Error> {
        let _room = self.admit()?;
        self.prepared()?.list(call, actor, query).await
    }

    async fn list_changes(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Listed<LoggedChange>, Error> {
        let _room = self.admit()?;
        self.prepared()?.list_changes(call, actor, query).await
    }

    async fn visibility(
        &self,
        call: &CallContext,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<Visibility, Error> {
        self.prepared()?.visibility(call, actor, user_id).await
    }

    async fn watch(
        &self,
        call: &CallContext,
        from: Option<Position>,
        watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Box<dyn Watch>, Error> {
        self.prepared()?;
        Ok(Box::new(self.feed.watch(&call.span, from, watched, caller).await?))
    }

    async fn token_key(&self, call: &CallContext) -> Result<TokenKey, Error> {
        let database = self.prepared()?;
        let load = async || {
            let (_room, lease) = database.own_work().await?;
            let key = token_key::load(&*lease);
            let key = own_statement(database.engine(), &call.span, "SELECT", "token_keys", key);
            let key = key.await;
            let key = lease.note(key)?;
            lease.done();
            Ok(key)
        };
        self.token_key.get_or_try_init(load).await.cloned()
    }

    async fn administer(&self, call: &CallContext, actor: &Actor) -> Result<(), Error> {
        let _room = self.admit()?;
        let mut plan = LoadPlan::default();
        plan.add_actor(actor);
        rules::administer(actor, &self.prepared()?.load(call, &plan).await?)
    }

    async fn settings(&self, call: &CallContext) -> Result<Settings, Error> {
        let _room = self.admit()?;
        self.prepared()?.settings(&call.span).await
    }

    async fn update_settings(
        &self,
        call: &CallContext,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let _room = self.admit()?;
        self.prepared()?.update_settings(&call.span, change).await
    }

    async fn ready(&self) -> Result<(), NotReady> {
        let Some(writers) = self.writers.get() else {
            return Err(NotReady { fault: self.unprepared(), cause: not_prepared().into() });
        };
        writers.probe(&self.database).await.map_err(Into::into)
    }
}

/// A database, its connection pools and its transactions.
#[derive(Debug)]
pub(super) struct Database {
    options: Options,
    pools: Pools,
    /// Detects deleted or replaced database files. `None` on servers.
    place: Option<Arc<Place>>,
    /// Used only on servers.
    probe: Probe,
    /// Limits reads, to leave connections to writes.
    reading: ConnectionLimiter,
    /// Limits the service's internal work.
    own_work: ConnectionLimiter,
    wake: Wake,
}

impl Database {
    pub(super) fn engine(&self) -> Engine {
        self.pools.engine
    }

    /// The interval between PostgreSQL snapshots while ids of the change log are missing.
    pub(super) fn snapshot_interval(&self) -> Duration {
        self.options.snapshot_interval
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// `None` on servers.
    pub(super) fn place(&self) -> Option<&Arc<Place>> {
        self.place.as_ref()
    }

    /// Proves that a server can store an update.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        self.probe.prove(self.engine(), self.settings(&Span::default())).await
    }

    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// The connect options of each PostgreSQL host. Empty on other engines.
    pub(super) fn postgres_hosts(&self) -> Vec<PgConnectOptions> {
        connect::postgres_hosts(&self.options)
    }

    /// Acquires a connection for internal work: settings, tokens, subscriptions, sweeps. Internal
    /// work has its own share of the connections.
    pub(super) async fn own_work(&self) -> Result<(ConnectionPermit<'_>, Lease), Error> {
        let room = self.own_work.acquire().await;
        Ok((room, self.pools.read().await?))
    }

    /// Acquires a write connection for internal work.
    pub(super) async fn own_writing(&self) -> Result<(ConnectionPermit<'_>, Lease), Error> {
        let room = self.own_work.acquire().await;
        Ok((room, self.pools.write().await?))
    }

    /// Begins a write transaction. After a timeout, the writer retries on another connection.
    pub(super) async fn begin(&self, span: &Span) -> Result<Begun, Error> {
        let lease = self.pools.write().await?;
        let begin = transaction::begin(&lease, self.engine(), span);
        // On SQLite, `BEGIN` waits for other writers.
        let begun = if self.engine() == Engine::Sqlite {
            begin.await
        } else {
            timeout(BEGIN_TIMEOUT, begin).await.unwrap_or_else(|_| Err(unanswered()))
        };
        Ok(Begun { transaction: lease.note(begun)?, lease })
    }

    /// Has every server connection checked before its next use. Called after a timeout.
    pub(super) fn suspect_connections(&self) {
        self.pools.suspect();
    }

    /// Applies updates in order in a begun transaction, and ends the transaction.
    pub(super) async fn apply(
        &self,
        begun: Begun,
        span: &Span,
        updates: &[Pending<'_>],
        lock: RowLock,
        atomicity: Atomicity,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        let Begun { transaction, lease } = begun;
        let engine = (self.engine(), span);
        let applied = transaction::apply(transaction, engine, updates, lock, atomicity).await;
        match &applied {
            Ok(applied) => {
                self.stored(applied);
                self.probe.found_room(self.engine());
                lease.done();
            }
            Err(failure) => {
                if fault::of(&failure.error) == Some(Fault::DiskFull) {
                    self.probe.doubt_room();
                }
                failure.breakage().into_iter().for_each(|breakage| lease.fails(breakage));
            }
        }
        applied
    }

    /// Wakes the readers of the change log if a change was stored.
    pub(super) fn stored(&self, outcomes: &[Result<Updated, Error>]) {
        if outcomes.iter().flatten().any(|updated| !updated.changes.is_empty()) {
            self.wake.stored();
        }
    }

    /// Loads the snapshot of a plan.
    async fn load(&self, call: &CallContext, plan: &LoadPlan) -> Result<Snapshot, Error> {
        let load = || async {
            let reading = self.reading(call).await?;
            let snapshot = reading.load(plan).await?;
            reading.end().await;
            Ok(snapshot)
        };
        again(load).await
    }

    /// Which users an actor may list.
    async fn visibility(
        &self,
        call: &CallContext,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<Visibility, Error> {
        let find = || async {
            let reading = self.reading(call).await?;
            let visibility = reading.visibility(actor, user_id).await?;
            reading.end().await;
            Ok(visibility)
        };
        again(find).await
    }

    async fn settings(&self, span: &Span) -> Result<Settings, Error> {
        let load = || async {
            let (_room, lease) = self.own_work().await?;
            let load = settings::load(&*lease);
            let settings = own_statement(self.engine(), span, "SELECT", "settings", load).await;
            let settings = lease.note(settings)?;
            lease.done();
            Ok(settings)
        };
        again(load).await
    }

    async fn update_settings(
        &self,
        span: &Span,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let _room = self.own_work.acquire().await;
        let Begun { transaction, lease } = self.begin(span).await?;
        let update = async {
            let load = settings::load(&transaction);
            let stored = own_statement(self.engine(), span, "SELECT", "settings", load).await?;
            let settings = change(stored.clone());
            if settings != stored {
                let save = settings::save(&transaction, &stored, &settings);
                own_statement(self.engine(), span, "INSERT", "settings", save).await?;
            }
            own_statement(self.engine(), span, "COMMIT", "", transaction.commit()).await?;
            Ok(settings)
        };
        let settings = lease.note(update.await)?;
        lease.done();
        if let Some(place) = &self.place {
            place.check()?;
        }
        Ok(settings)
    }

    async fn durability(&self) -> Result<Vec<(String, String)>, Error> {
        let queries: &[(&str, &str)] = match self.engine() {
            Engine::Sqlite => &[
                ("journal_mode", "SELECT journal_mode FROM pragma_journal_mode"),
                // 2 is FULL.
                ("synchronous", "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous"),
                ("foreign_keys", "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys"),
            ],
            Engine::Postgres => &[
                ("fsync", "SELECT current_setting('fsync')"),
                ("synchronous_commit", "SELECT current_setting('synchronous_commit')"),
                ("full_page_writes", "SELECT current_setting('full_page_writes')"),
            ],
            Engine::MySql => &[
                (
                    "innodb_flush_log_at_trx_commit",
                    "SELECT CAST(@@innodb_flush_log_at_trx_commit AS CHAR)",
                ),
                ("innodb_doublewrite", "SELECT CAST(@@innodb_doublewrite AS CHAR)"),
            ],
        };
        let (_room, write) = self.own_writing().await?;
        let mut settings = Vec::new();
        for (name, query) in queries {
            let query = Statement::from_string(write.get_database_backend(), *query);
            let row = write.query_one_raw(query);
            let row = own_statement(self.engine(), &Span::default(), "SELECT", "", row).await;
            if let Some(row) = write.note(row)? {
                settings.push(((*name).to_owned(), row.try_get_by_index(0)?));
            }
        }
        write.done();
        Ok(settings)
    }
}

/// A write transaction and its connection.
pub(super) struct Begun {
    transaction: DatabaseTransaction,
    lease: Lease,
}

/// Retries a read once if its connection was unusable.
pub(super) async fn again<T, F>(read: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    match read().await {
        Err(error) if breakage(&error).is_some() => read().await,
        outcome => outcome,
    }
}
