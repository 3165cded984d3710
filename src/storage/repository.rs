//! The store on a database.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, EntityTrait, Select, Statement, TransactionTrait};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    asynchronous::{
        columns,
        statements::{Lock, Statements, bounded},
        transaction::{self, Refused},
    },
    connect::{Engine, OpenError, Options, Pools, open},
    failure::Failure,
    feed::{Feed, Wake},
    listing, measured,
    migrate::migrate,
    settings,
    spans::statement,
    sweep::sweep,
    writer::{Writers, patience, writing},
};
use crate::domain::{
    account::User,
    acting::Acting,
    deadline,
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
        let reading = Semaphore::new(readers(pools.engine, options.max_connections));
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
    pub(super) fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
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
    async fn apply(&self, update: Update, now: DateTime<Utc>) -> Result<Updated, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        writers.apply(update, now, self.room()?).await
    }

    async fn apply_all(
        &self,
        updates: Vec<Update>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Updated>, Error> {
        let writers = self.writers.get().ok_or_else(not_prepared)?;
        writers.apply_all(updates, now, self.room()?).await
    }

    async fn read(&self, actor: &Actor, user_id: i64) -> Result<User, Error> {
        let _room = self.room()?;
        let mut needs = Needs::default();
        needs.add_read(actor, user_id);
        let facts = self.prepared()?.load(&needs).await?;
        rules::read(actor, user_id, &facts).cloned()
    }

    async fn list(&self, actor: &Actor, query: &UserQuery) -> Result<Vec<User>, Error> {
        let _room = self.room()?;
        self.prepared()?.list(actor, query).await
    }

    async fn list_changes(
        &self,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Vec<LoggedChange>, Error> {
        let _room = self.room()?;
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
        let _room = self.room()?;
        let mut needs = Needs::default();
        needs.add_actor(actor);
        rules::administer(actor, &self.prepared()?.load(&needs).await?)
    }

    async fn settings(&self) -> Result<Settings, Error> {
        let _room = self.room()?;
        self.prepared()?.settings().await
    }

    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let _room = self.room()?;
        self.prepared()?.update_settings(change).await
    }

    async fn ready(&self) -> Result<(), Cause> {
        let settings = self.prepared()?.settings().await;
        settings.map(drop).map_err(Into::into)
    }
}

/// How long a read of the growing change log may take.
const LONGEST_READ: Duration = Duration::from_secs(8);

/// How many may read at once: on a server all connections but those that write.
fn readers(engine: Engine, connections: u32) -> usize {
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    match engine {
        Engine::Sqlite => connections,
        Engine::Postgres | Engine::MySql => connections.saturating_sub(writing(connections)).max(1),
    }
}

/// A database, and its transactions.
#[derive(Debug)]
pub(super) struct Database {
    options: Options,
    pools: Pools,
    /// For what reads: it leaves connections to what writes.
    reading: Semaphore,
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

    /// Applies updates, in their order, in one transaction.
    pub(super) async fn apply(
        &self,
        updates: &[(&Update, DateTime<Utc>)],
        lock: Lock,
        refused: Refused,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        let applied =
            transaction::apply(&self.pools.write, self.engine(), updates, lock, refused).await?;
        self.stored(&applied);
        Ok(applied)
    }

    /// Calls those who read the growing change log, if anything was stored.
    pub(super) fn stored(&self, outcomes: &[Result<Updated, Error>]) {
        if outcomes.iter().flatten().any(|updated| !updated.changes.is_empty()) {
            self.wake.stored();
        }
    }

    /// Loads what is needed to read.
    async fn load(&self, needs: &Needs) -> Result<Facts, Error> {
        let _connection = self.reading.acquire().await;
        let statements = Statements { engine: self.engine(), connection: &self.pools.read };
        let facts = statements.load(needs, Lock::None).await?;
        // Whoever reads acts alone.
        if let Some(account) = facts.actors.values().next() {
            Acting::current().tell_account(account.id);
        }
        Ok(facts)
    }

    /// Which users an actor may list.
    async fn scope(&self, actor: &Actor, user_id: Option<i64>) -> Result<Scope, Error> {
        let mut needs = Needs::default();
        needs.add_actor(actor);
        needs.users.extend(user_id);
        let facts = self.load(&needs).await?;
        if let Some(user_id) = user_id {
            rules::read(actor, user_id, &facts)?;
        }
        rules::scope(actor, &facts)
    }

    async fn list(&self, actor: &Actor, query: &UserQuery) -> Result<Vec<User>, Error> {
        let scope = self.scope(actor, None).await?;
        let _connection = self.reading.acquire().await;
        let rows = self.page("accounts", listing::users(query, scope)).await?;
        Ok(rows.into_iter().map(columns::user).collect::<Result<_, _>>()?)
    }

    async fn list_changes(
        &self,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Vec<LoggedChange>, Error> {
        let scope = self.scope(actor, None).await?;
        let _connection = self.reading.acquire().await;
        let mut span = 1..=i64::MAX;
        let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
        if let Some(since) = micros(query.filter.since) {
            let Some(first) = self.boundary(Some(since), None).await? else {
                return Ok(Vec::new());
            };
            span = first..=*span.end();
        }
        if let Some(until) = micros(query.filter.until) {
            let Some(last) = self.boundary(None, Some(until)).await? else { return Ok(Vec::new()) };
            span = *span.start()..=last;
        }
        let rows = self.page("change_log", listing::changes(query, scope, span)).await?;
        Ok(rows.into_iter().map(listing::logged).collect::<Result<_, _>>()?)
    }

    /// The rows of a page. A server gives up with a caller that waits less long than is usual.
    async fn page<E: EntityTrait>(
        &self,
        table: &'static str,
        page: Select<E>,
    ) -> Result<Vec<E::Model>, Error> {
        let (engine, read) = (self.engine(), &self.pools.read);
        let rows = match (engine, patience([deadline::current()])) {
            (Engine::Postgres, Some(patience)) => {
                let begin = read.begin();
                let transaction = statement(engine, "BEGIN", "", begin).await?;
                Statements { engine, connection: &transaction }.bound(patience).await?;
                let rows = statement(engine, "SELECT", table, page.all(&transaction)).await;
                transaction::rollback(transaction, engine).await;
                rows
            }
            (Engine::MySql, Some(patience)) => {
                let page = E::find().from_raw_sql(bounded(&page, patience));
                statement(engine, "SELECT", table, page.all(read)).await
            }
            _ => statement(engine, "SELECT", table, page.all(read)).await,
        };
        Ok(rows?)
    }

    async fn boundary(&self, since: Option<i64>, until: Option<i64>) -> Result<Option<i64>, Error> {
        let boundary = listing::boundary(since, until).into_tuple().one(&self.pools.read);
        Ok(statement(self.engine(), "SELECT", "change_log", boundary).await?)
    }

    /// The ids of the newest entries of the change log, the newest first.
    pub(super) async fn newest_changes(&self, limit: u64) -> Result<Vec<i64>, Error> {
        self.ids("change_log", listing::newest(limit)).await
    }

    /// The id of the oldest entry of the change log.
    pub(super) async fn oldest_change(&self) -> Result<Option<i64>, Error> {
        Ok(self.ids("change_log", listing::oldest()).await?.pop())
    }

    /// Those of some users whose responsible manager this is.
    pub(super) async fn assigned(
        &self,
        manager: i64,
        users: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error> {
        let assigned = self.ids("accounts", listing::assigned(manager, users)).await?;
        Ok(assigned.into_iter().collect())
    }

    /// The entries behind a position, of one user or of all, in the order of their ids, as they are visible at one moment.
    pub(super) async fn changes_behind(
        &self,
        position: &Position,
        user_id: Option<i64>,
        limit: u64,
    ) -> Result<Vec<Arc<LoggedChange>>, Error> {
        let page = if position.missing().len() <= listing::GAPS {
            listing::behind(position, user_id, limit)
        } else {
            let behind = listing::ids_behind(position.floor(), user_id);
            let ids = self.ids("change_log", behind).await?;
            let unseen = ids.into_iter().filter(|id| !position.contains(*id));
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            listing::of_ids(unseen.take(most))
        };
        let _connection = self.reading.acquire().await;
        let rows = statement(self.engine(), "SELECT", "change_log", page.all(&self.pools.read));
        let rows = timeout(LONGEST_READ, rows).await.map_err(|_| Error::DeadlineExceeded)?;
        let entries = rows?.into_iter().map(|row| Ok(Arc::new(listing::logged(row)?)));
        entries.collect()
    }

    async fn ids<E: EntityTrait>(
        &self,
        table: &'static str,
        select: Select<E>,
    ) -> Result<Vec<i64>, Error> {
        let _connection = self.reading.acquire().await;
        let ids = select.into_tuple().all(&self.pools.read);
        let ids = timeout(LONGEST_READ, statement(self.engine(), "SELECT", table, ids)).await;
        Ok(ids.map_err(|_| Error::DeadlineExceeded)??)
    }

    async fn settings(&self) -> Result<Settings, Error> {
        statement(self.engine(), "SELECT", "settings", settings::load(&self.pools.read)).await
    }

    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let transaction = transaction::begin(&self.pools.write, self.engine()).await?;
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
