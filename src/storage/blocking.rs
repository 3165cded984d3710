//! The transactions on SeaORM's blocking twin: on SQLite, where the way to a driver's thread and back would cost more than
//! most statements, and one thread writes.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm_blocking as sea_orm;
use sea_orm_blocking::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement,
};
use tokio::runtime::Handle;

use super::{
    checkpoint::Checkpoints,
    connect::{Engine, Options, PATIENCE, sqlite_file},
    failure::Failure,
    repository,
};
use crate::domain::{
    error::Error,
    update::{Update, Updated},
};

macro_rules! sql {
    ($engine:expr, $operation:expr, $collection:expr, $call:expr) => {
        crate::storage::spans::blocking($engine, $operation, $collection, || $call)
    };
}

#[expect(dead_code, reason = "what only the other twin uses")]
#[path = "sql/mod.rs"]
mod sql;
pub(super) use sql::*;
use transaction::{Ahead, Refused};

/// The one connection that writes; it is made when it is used.
pub(super) struct Writer {
    options: Options,
    database: Arc<repository::Database>,
    connection: Option<DatabaseConnection>,
    checkpoints: Checkpoints,
    runtime: Handle,
}

impl Writer {
    pub(super) fn new(
        options: Options,
        database: Arc<repository::Database>,
        runtime: Handle,
    ) -> Self {
        let checkpoints = Checkpoints::start(options.clone());
        Self { options, database, connection: None, checkpoints, runtime }
    }

    /// Applies updates, in their order, in one transaction, as was decided ahead if that still holds. `patience` is how long to
    /// wait for another writer, if not as long as usual.
    pub(super) fn apply(
        &mut self,
        updates: &[(&Update, DateTime<Utc>)],
        refused: Refused,
        patience: Option<Duration>,
        ahead: Option<Ahead>,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.options)?,
        };
        if let Some(patience) = patience {
            wait(&connection, patience)?;
        }
        // Nothing in it waits: it is compiled with the blocking twin.
        let lock = statements::Lock::Wait(None);
        let apply = async {
            let begun = transaction::begin(&connection, Engine::Sqlite).await?;
            transaction::apply(begun, Engine::Sqlite, updates, lock, refused, ahead).await
        };
        let outcomes = self.runtime.block_on(apply);
        // After a failure, such as that of a COMMIT, it may have a transaction open, which ends with it.
        if let Ok(outcomes) = &outcomes {
            if patience.is_some() {
                wait(&connection, PATIENCE)?;
            }
            self.connection = Some(connection);
            self.checkpoints.stored(updates.len());
            self.database.stored(outcomes);
        }
        outcomes
    }
}

/// Sets how long a connection waits for another writer.
fn wait(connection: &DatabaseConnection, patience: Duration) -> Result<(), Error> {
    let milliseconds = patience.as_millis().max(1);
    connection.execute_unprepared(&format!("PRAGMA busy_timeout = {milliseconds}"))?;
    Ok(())
}

/// As [`super::connect`] sets its connections up.
pub(super) fn connect(options: &Options) -> Result<DatabaseConnection, Error> {
    let file = sqlite_file(&options.url).map_err(|error| Error::Unavailable(error.into()))?;
    let connection = Database::connect(ConnectOptions::new(format!("sqlite://{file}?mode=rw")))?;
    connection.execute_unprepared(SQLITE_SESSION)?;
    connection.execute_unprepared(&format!("PRAGMA wal_autocheckpoint = {LOG_PAGES}"))?;
    let set = Statement::from_string(DbBackend::Sqlite, DURABLE);
    if connection.query_one_raw(set)?.is_none() {
        return Err(Error::Unavailable("the database cannot be written to durably".into()));
    }
    Ok(connection)
}

/// How many pages SQLite's log of changes has (128 MB) before the writer itself brings what it holds into the database, and starts
/// it anew: everybody waits for that, and most of it has been done meanwhile, see [`Checkpoints`].
pub(super) const LOG_PAGES: i32 = 32_000;

/// WAL, and every commit synced: an update that was answered survives the loss of power. 4 MB of pages are cached.
const SQLITE_SESSION: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -4000";

/// A row if that was done: SQLite does not say so when a setting is refused.
const DURABLE: &str = "
    SELECT 1 FROM pragma_journal_mode, pragma_synchronous, pragma_foreign_keys
    WHERE journal_mode = 'wal' AND synchronous = 2 AND foreign_keys = 1";
