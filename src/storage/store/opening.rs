//! Opens a database.

use std::sync::{Arc, PoisonError};

use tokio::sync::Semaphore;

use super::SqlStore;
use crate::{
    domain::{call_context::CallContext, error::chain, store::Store},
    storage::{
        connect::{self, Engine, OpenError, Options, open},
        database::Database,
        feed::Feed,
        migrate::{check_schema, migrate},
        not_ready::fault_of_cause,
        place::Place,
        pool_metrics, query_telemetry,
        sqlite_url::{SqliteFile, check_file},
    },
};

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
        let place = match pools.engine {
            Engine::Sqlite => Some(Arc::new(Place::new(&SqliteFile::from_url(&options.url)?))),
            Engine::Postgres | Engine::MySql => None,
        };
        let database = Arc::new(Database::new(&options, pools, place));
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
                OpenError::Prepare(cause) | OpenError::Unreachable { source: cause, .. } => {
                    fault_of_cause(cause)
                }
                _ => None,
            };
            *self.unprepared.lock().unwrap_or_else(PoisonError::into_inner) = fault;
            return Err(error);
        }
        self.database.pools().connect().await;
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
    /// [`OpenError::Unfit`], [`OpenError::Refused`], [`OpenError::Unreachable`], [`OpenError::Newer`],
    /// [`OpenError::Prepare`].
    pub async fn open_existing(options: Options) -> Result<Self, OpenError> {
        let store = Self::new(options)?;
        check_schema(&store.options).await?;
        store.attach();
        Ok(store)
    }
}
