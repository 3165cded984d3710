//! The store on a database.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    asynchronous::{
        statements::{Lock, Statements},
        transaction,
    },
    connect::{Engine, OpenError, Options, Pools, open},
    failure::Failure,
    migrate::migrate,
    settings,
    spans::statement,
    writer::Writers,
};
use crate::domain::{
    account::User,
    error::{Cause, Error},
    facts::{Facts, Needs},
    rules,
    settings::Settings,
    store::Store,
    update::{Actor, Update, Updated},
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
}

impl SqlStore {
    /// The store on a database, which must be prepared before it answers.
    ///
    /// # Errors
    /// [`OpenError::Url`].
    pub fn new(options: Options) -> Result<Self, OpenError> {
        let database = Arc::new(Database(open(&options)?));
        let room = Arc::new(Semaphore::new(options.max_in_flight));
        Ok(Self { options, database, room, writers: Arc::default() })
    }

    /// Brings the schema up to date; with `demo`, fills a database that has no account with the demo data.
    ///
    /// # Errors
    /// Those of [`migrate`]; the store still does not answer then.
    pub async fn prepare(&self, demo: bool) -> Result<(), OpenError> {
        let (migrated, ()) = tokio::join!(migrate(&self.options, demo), self.database.0.connect());
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

    /// Waits for every update that was begun, and lets none begin any more.
    pub async fn finish(&self) {
        let all = u32::try_from(self.options.max_in_flight).unwrap_or(u32::MAX);
        // Fails only where it was called before.
        let _ = self.room.acquire_many(all).await;
        self.room.close();
    }

    /// Ends every connection, after what they are doing.
    pub async fn close(self) {
        for pool in [&self.database.0.read, &self.database.0.write] {
            if let Err(error) = pool.close_by_ref().await {
                tracing::warn!(%error, "a pool of connections could not be closed");
            }
        }
    }

    /// Room for one more call.
    fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.room).try_acquire_owned().map_err(|_| Error::Overloaded)
    }

    /// The database, once its schema is up to date.
    fn prepared(&self) -> Result<&Database, Error> {
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

    async fn read(&self, actor: &Actor, user_id: i64) -> Result<User, Error> {
        let _room = self.room()?;
        let mut needs = Needs::default();
        needs.add_read(actor, user_id);
        let facts = self.prepared()?.load(&needs).await?;
        rules::read(actor, user_id, &facts).cloned()
    }

    async fn administer(&self, actor: &Actor) -> Result<(), Error> {
        let mut needs = Needs::default();
        needs.add_actor(actor);
        rules::administer(actor, &self.prepared()?.load(&needs).await?)
    }

    async fn settings(&self) -> Result<Settings, Error> {
        self.prepared()?.settings().await
    }

    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        self.prepared()?.update_settings(change).await
    }

    async fn ready(&self) -> Result<(), Cause> {
        self.settings().await.map(drop).map_err(Into::into)
    }
}

/// A database, and its transactions.
#[derive(Debug)]
pub(super) struct Database(Pools);

impl Database {
    pub(super) fn engine(&self) -> Engine {
        self.0.engine
    }

    /// Applies updates, in their order, in one transaction. What the rules refuse has no effect, and the others have.
    pub(super) async fn apply(
        &self,
        updates: &[(&Update, DateTime<Utc>)],
        lock: Lock,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        transaction::apply(&self.0.write, self.engine(), updates, lock).await
    }

    /// Loads what is needed to read.
    async fn load(&self, needs: &Needs) -> Result<Facts, Error> {
        let begin = self.0.read.begin();
        let transaction = statement(self.engine(), "BEGIN", "", begin).await?;
        let statements = Statements { engine: self.engine(), transaction: &transaction };
        let facts = statements.load(needs, Lock::None).await;
        transaction::rollback(transaction, self.engine()).await;
        facts
    }

    async fn settings(&self) -> Result<Settings, Error> {
        statement(self.engine(), "SELECT", "settings", settings::load(&self.0.read)).await
    }

    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let transaction = transaction::begin(&self.0.write, self.engine()).await?;
        let stored = settings::load(&transaction).await?;
        let settings = change(stored.clone());
        settings::save(&transaction, &stored, &settings).await?;
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
        let write = &self.0.write;
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
