//! The store on a database.

mod pages;
mod reading;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use super::{
    asynchronous::{
        statements::Lock,
        transaction::{self, Refused},
    },
    blocking::transaction::Ahead,
    connect::{self, Engine, OpenError, Options, Pools, open, readers},
    failure::Failure,
    feed::{Feed, Wake},
    gate::Gate,
    measured,
    migrate::migrate,
    settings,
    spans::{self, statement},
    sweep::sweep,
    writer::Writers,
};
use crate::domain::{
    account::User,
    error::{Cause, Error},
    facts::{Facts, Needs},
    listing::{ChangeQuery, LoggedChange, UserQuery},
    rules::{self, Scope},
    settings::Settings,
    store::Store,
    update::{Actor, Update, Updated},
    watch::{Position, Watch, Watched},
};

/// The store on a database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    options: Options,
    database: Arc<Database>,
    /// For the calls that may be under way at once.
    room: Arc<Semaphore>,
    /// Started once the schema is up to date.
    writers: Arc<OnceLock<Writers>>,
    feed: Arc<Feed>,
}

impl SqlStore {
    /// The store on a database, which must be prepared before it answers.
    ///
    /// # Errors
    /// [`OpenError::Url`].
    pub fn new(options: Options) -> Result<Self, OpenError> {
        let pools = open(&options)?;
        measured::observe(&pools);
        spans::tell_database(connect::attributes(&options));
        let readers = readers(pools.engine, options.max_connections);
        let reading = Gate::new(readers, pools.queue.clone());
        let wake = Wake::default();
        let database = Arc::new(Database { options: options.clone(), pools, reading, wake });
        let feed = Arc::new(Feed::new(Arc::clone(&database)));
        let room = Arc::new(Semaphore::new(options.max_in_flight));
        Ok(Self { options, database, room, writers: Arc::default(), feed })
    }

    /// Brings the schema up to date; with `demo`, fills a database that has no account with the demo data.
    ///
    /// # Errors
    /// Those of [`migrate`]; the store still does not answer then.
    pub async fn prepare(&self, demo: bool) -> Result<(), OpenError> {
        let (migrated, ()) =
            tokio::join!(migrate(&self.options, demo), self.database.pools.connect());
        migrated?;
        self.attach();
        Ok(())
    }

    /// Takes the schema to be up to date.
    pub fn attach(&self) {
        self.writers.get_or_init(|| Writers::start(&self.database, &self.options));
    }

    /// The engine.
    pub fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// The settings of the writing connection on which durability hangs, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn durability(&self) -> Result<Vec<(String, String)>, Error> {
        self.prepared()?.durability().await
    }

    /// Deletes the answers of requests that are over 24 hours old, and entries of the change log that are older than
    /// `keep_log`, if that is given.
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

    /// Waits for every update that was begun, and lets none begin any more.
    pub async fn finish(&self) {
        let all = u32::try_from(self.options.max_in_flight).unwrap_or(u32::MAX);
        // Fails only where it was called before.
        let _ = self.room.acquire_many(all).await;
        self.room.close();
    }

    /// Ends every connection, after what they are doing.
    pub async fn close(self) {
        for pool in [&self.database.pools.read, &self.database.pools.write] {
            if let Err(error) = pool.close_by_ref().await {
                tracing::warn!(%error, "a pool of connections could not be closed");
            }
        }
    }

    /// Room for one more call.
    pub(super) fn take_room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| Error::Overloaded)
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

    async fn apply(&self, update: Update, now: DateTime<Utc>) -> Result<Updated, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        writers.apply(update, now, self.take_room()?).await
    }

    async fn apply_all(
        &self,
        updates: Vec<Update>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Updated>, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        let room = self.take_room()?;
        let (updates, ahead) = self.database.decide_ahead(updates, now).await?;
        writers.apply_all(updates, now, ahead, room).await
    }

    async fn read(&self, actor: &Actor, user_id: i64) -> Result<User, Error> {
        let _room = self.take_room()?;
        let mut needs = Needs::default();
        needs.add_read(actor, user_id);
        let facts = self.prepared()?.load(&needs).await?;
        rules::read(actor, user_id, &facts).cloned()
    }

    async fn list(&self, actor: &Actor, query: &UserQuery) -> Result<Vec<User>, Error> {
        let _room = self.take_room()?;
        self.prepared()?.list(actor, query).await
    }

    async fn list_changes(
        &self,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Vec<LoggedChange>, Error> {
        let _room = self.take_room()?;
        self.prepared()?.list_changes(actor, query).await
    }

    async fn scope(&self, actor: &Actor, user_id: Option<i64>) -> Result<Scope, Error> {
        self.prepared()?.scope(actor, user_id).await
    }

    async fn watch(
        &self,
        from: Option<Position>,
        watched: Watched,
    ) -> Result<Box<dyn Watch>, Error> {
        self.prepared()?;
        Ok(Box::new(self.feed.watch(from, watched).await?))
    }

    async fn administer(&self, actor: &Actor) -> Result<(), Error> {
        let _room = self.take_room()?;
        let mut needs = Needs::default();
        needs.add_actor(actor);
        rules::administer(actor, &self.prepared()?.load(&needs).await?)
    }

    async fn settings(&self) -> Result<Settings, Error> {
        let _room = self.take_room()?;
        self.prepared()?.settings().await
    }

    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let _room = self.take_room()?;
        self.prepared()?.update_settings(change).await
    }

    async fn ready(&self) -> Result<(), Cause> {
        let settings = self.prepared()?.settings().await;
        settings.map(drop).map_err(Into::into)
    }
}

/// A database, and its transactions.
#[derive(Debug)]
pub(super) struct Database {
    options: Options,
    pools: Pools,
    /// For what reads: it leaves connections to what writes.
    reading: Gate,
    wake: Wake,
}

impl Database {
    pub(super) fn engine(&self) -> Engine {
        self.pools.engine
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// The wake-up calls.
    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// The URL of a PostgreSQL server.
    pub(super) fn postgres_url(&self) -> Option<&str> {
        (self.engine() == Engine::Postgres).then_some(&self.options.url)
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<DatabaseTransaction, Error> {
        transaction::begin(&self.pools.write, self.engine()).await
    }

    /// Applies updates, in their order, in a transaction that was begun, and ends it.
    pub(super) async fn apply(
        &self,
        transaction: DatabaseTransaction,
        updates: &[(&Update, DateTime<Utc>)],
        lock: Lock,
        refused: Refused,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        let applied =
            transaction::apply(transaction, self.engine(), updates, lock, refused, None).await?;
        self.stored(&applied);
        Ok(applied)
    }

    /// On SQLite, decides on updates before their transaction, which then holds the one writer not as long.
    async fn decide_ahead(
        &self,
        updates: Vec<Update>,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Update>, Option<Ahead>), Error> {
        if self.engine() != Engine::Sqlite {
            return Ok((updates, None));
        }
        let facts = self.load(&Needs::of(&updates)).await?;
        let decide = move || {
            let pairs: Vec<_> = updates.iter().map(|update| (update, now)).collect();
            let ahead = Ahead::decide(Engine::Sqlite, &pairs, facts)?;
            Ok((updates, Some(ahead)))
        };
        // It takes as long as many calls.
        spawn_blocking(decide).await.map_err(|panicked| Error::Internal(panicked.into()))?
    }

    /// Calls those who read the growing change log, if anything was stored.
    pub(super) fn stored(&self, outcomes: &[Result<Updated, Error>]) {
        if outcomes.iter().flatten().any(|updated| !updated.changes.is_empty()) {
            self.wake.stored();
        }
    }

    /// Loads what is needed to read.
    async fn load(&self, needs: &Needs) -> Result<Facts, Error> {
        let reading = self.reading().await?;
        let facts = reading.load(needs).await?;
        reading.end().await;
        Ok(facts)
    }

    /// Which users an actor may list.
    async fn scope(&self, actor: &Actor, user_id: Option<i64>) -> Result<Scope, Error> {
        let reading = self.reading().await?;
        let scope = reading.scope(actor, user_id).await?;
        reading.end().await;
        Ok(scope)
    }

    async fn settings(&self) -> Result<Settings, Error> {
        statement(self.engine(), "SELECT", "settings", settings::load(&self.pools.read)).await
    }

    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let transaction = self.begin().await?;
        let load = settings::load(&transaction);
        let stored = statement(self.engine(), "SELECT", "settings", load).await?;
        let settings = change(stored.clone());
        if settings != stored {
            let save = settings::save(&transaction, &stored, &settings);
            statement(self.engine(), "INSERT", "settings", save).await?;
        }
        statement(self.engine(), "COMMIT", "", transaction.commit()).await?;
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
        let write = &self.pools.write;
        let mut settings = Vec::new();
        for (name, query) in queries {
            let query = Statement::from_string(write.get_database_backend(), *query);
            if let Some(row) = write.query_one_raw(query).await? {
                settings.push(((*name).to_owned(), row.try_get_by_index(0)?));
            }
        }
        Ok(settings)
    }
}
