//! The store: each use in a transaction of its own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait,
};

use super::{
    connect::{Engine, OpenError, Options, Pools, open},
    failure::is_conflict,
    migrate::migrate,
    settings,
    spans::statement,
    transaction::SqlTransaction,
};
use crate::domain::{
    account::User,
    error::{Cause, Error},
    rules,
    settings::Settings,
    store::Store,
    update::{Actor, Update, Updated},
};

/// How often a transaction is run that loses against another one.
const ATTEMPTS: u32 = 5;

/// The store on a database.
#[derive(Clone, Debug)]
pub struct SqlStore {
    options: Options,
    pools: Pools,
    prepared: Arc<AtomicBool>,
}

impl SqlStore {
    /// The store on a database, which must be prepared before it answers.
    ///
    /// # Errors
    /// [`OpenError::Url`].
    pub fn new(options: Options) -> Result<Self, OpenError> {
        let pools = open(&options)?;
        Ok(Self { options, pools, prepared: Arc::default() })
    }

    /// Brings the schema up to date; with `demo`, fills a database that has no account with the demo data.
    ///
    /// # Errors
    /// Those of [`migrate`]; the store still does not answer then.
    pub async fn prepare(&self, demo: bool) -> Result<(), OpenError> {
        migrate(&self.options, demo).await?;
        self.prepared.store(true, Ordering::Release);
        Ok(())
    }

    /// The pools, once the schema is up to date.
    fn pools(&self) -> Result<&Pools, Error> {
        if self.prepared.load(Ordering::Acquire) {
            return Ok(&self.pools);
        }
        Err(Error::Unavailable("the database is not prepared yet".into()))
    }

    /// The engine.
    pub fn engine(&self) -> Engine {
        self.pools.engine
    }

    /// The settings of the writing connection on which durability hangs, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn durability(&self) -> Result<Vec<(String, String)>, Error> {
        let queries: &[(&str, &str)] = match self.pools.engine {
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
        let write = &self.pools()?.write;
        let mut settings = Vec::new();
        for (name, query) in queries {
            let query = Statement::from_string(write.get_database_backend(), *query);
            if let Some(row) = write.query_one_raw(query).await? {
                settings.push(((*name).to_owned(), row.try_get_by_index(0)?));
            }
        }
        Ok(settings)
    }

    /// Ends every connection, after what they are doing.
    pub async fn close(self) {
        for pool in [self.pools.read, self.pools.write] {
            if let Err(error) = pool.close().await {
                tracing::warn!(%error, "a pool of connections could not be closed");
            }
        }
    }

    async fn begin_write(&self) -> Result<DatabaseTransaction, Error> {
        // A SQLite transaction that begins by reading cannot always go on to write.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let begin = self.pools()?.write.begin_with_options(options);
        Ok(statement(self.pools.engine, "BEGIN", "", begin).await?)
    }

    async fn begin_read(&self) -> Result<DatabaseTransaction, Error> {
        Ok(statement(self.pools.engine, "BEGIN", "", self.pools()?.read.begin()).await?)
    }

    async fn commit(&self, transaction: DatabaseTransaction) -> Result<(), Error> {
        Ok(statement(self.pools.engine, "COMMIT", "", transaction.commit()).await?)
    }

    async fn apply_once(&self, update: &Update, now: DateTime<Utc>) -> Result<Updated, Error> {
        let transaction = self.begin_write().await?;
        let mut ports = SqlTransaction { engine: self.pools.engine, transaction: &transaction };
        let updated = rules::apply(update, now, &mut ports).await;
        match &updated {
            Ok(done) if !update.validate_only && !done.changes.is_empty() => {
                self.commit(transaction).await?;
            }
            _ => self.rollback(transaction).await,
        }
        updated
    }

    /// Ends a transaction that wrote nothing that is to stay. If even that fails, the server does it.
    async fn rollback(&self, transaction: DatabaseTransaction) {
        let rollback = transaction.rollback();
        if statement(self.pools.engine, "ROLLBACK", "", rollback).await.is_err() {
            tracing::debug!("a transaction could not be rolled back");
        }
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn apply(&self, update: &Update, now: DateTime<Utc>) -> Result<Updated, Error> {
        let mut attempt = 1;
        loop {
            let updated = self.apply_once(update, now).await;
            match updated {
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS => attempt += 1,
                _ => return updated,
            }
        }
    }

    async fn read(&self, actor: &Actor, user_id: i64) -> Result<User, Error> {
        let transaction = self.begin_read().await?;
        let mut ports = SqlTransaction { engine: self.pools.engine, transaction: &transaction };
        let user = rules::read(actor, user_id, &mut ports).await;
        self.rollback(transaction).await;
        user
    }

    async fn administer(&self, actor: &Actor) -> Result<(), Error> {
        let transaction = self.begin_read().await?;
        let mut ports = SqlTransaction { engine: self.pools.engine, transaction: &transaction };
        let allowed = rules::administer(actor, &mut ports).await;
        self.rollback(transaction).await;
        allowed
    }

    async fn settings(&self) -> Result<Settings, Error> {
        statement(self.pools.engine, "SELECT", "settings", settings::load(&self.pools()?.read))
            .await
    }

    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let transaction = self.begin_write().await?;
        let stored = settings::load(&transaction).await?;
        let settings = change(stored.clone());
        settings::save(&transaction, &stored, &settings).await?;
        self.commit(transaction).await?;
        Ok(settings)
    }

    async fn ready(&self) -> Result<(), Cause> {
        self.settings().await.map(drop).map_err(Into::into)
    }
}
