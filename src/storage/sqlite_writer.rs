//! What the writer's thread does on SQLite: it has the one connection that stores updates, and proves that it could.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm_blocking::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tokio::{runtime::Handle, time::Instant};

use super::{
    blocking::{
        LOG_BYTES, connect, statements,
        transaction::{self, Ahead, Atomicity},
    },
    checkpoint::{Checkpoint, Checkpoints, checkpoint},
    connect::{Engine, Options, PATIENCE},
    failure::Failure,
    fault::{self, Corrupted},
    place::Place,
    repository::Database,
};
use crate::domain::{
    error::{Error, chain},
    readiness::Fault,
    update::{Update, Updated},
};

/// Few pages, so that a transaction writes its pages to the log before it ends; and no waiting: updates do.
const PROBE_SESSION: &str = "PRAGMA cache_size = 10; PRAGMA busy_timeout = 0";
/// More than most updates need: 128 KiB.
const PROBE: &str =
    "INSERT INTO settings (name, value) VALUES ('readiness probe', hex(zeroblob(65536)))";

/// How often at most the writer waits for those who read a log that is too long, and how long.
const SHORTEN_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEN_PATIENCE: Duration = Duration::from_millis(100);

/// The one connection that writes; it is made when it is used.
pub(super) struct Writer {
    options: Options,
    database: Arc<Database>,
    place: Arc<Place>,
    runtime: Handle,
    checkpoints: Checkpoints,
    /// Kept after a failure until another one is open: SQLite removes its log with the last connection.
    connection: Option<DatabaseConnection>,
    /// Whether a transaction on it did not end well.
    has_failed: bool,
    /// Why the last transaction could not be stored, until one is.
    fault: Option<Fault>,
    probing: Option<DatabaseConnection>,
    /// Since when another process has held the lock of writers.
    locked_since: Option<Instant>,
    /// Whether the content of a deleted log is in the database.
    is_rescued: bool,
    /// When the log was too long the last time.
    shortened: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        options: Options,
        database: Arc<Database>,
        place: Arc<Place>,
        runtime: Handle,
    ) -> Self {
        let checkpoints = Checkpoints::start(options.clone(), Arc::clone(&place));
        Self {
            options,
            database,
            place,
            runtime,
            checkpoints,
            connection: None,
            has_failed: false,
            fault: None,
            probing: None,
            locked_since: None,
            is_rescued: false,
            shortened: None,
        }
    }

    /// Applies updates, in their order, in one transaction, as was decided ahead if that still holds. `patience` is how long to
    /// wait for another writer, if not as long as usual.
    pub(super) fn apply(
        &mut self,
        updates: &[(&Update, DateTime<Utc>)],
        atomicity: Atomicity,
        patience: Option<Duration>,
        ahead: Option<Ahead>,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        self.check_sound()?;
        let connection = self.connect()?;
        // Until it has ended well; a panic ends it, too.
        self.has_failed = true;
        let applied = self.run(&connection, updates, atomicity, patience, ahead);
        match &applied {
            Ok((outcomes, log_bytes)) => {
                (self.has_failed, self.fault) = (false, None);
                self.checkpoints.stored(updates.len());
                self.database.stored(outcomes);
                self.shorten_log(&connection, *log_bytes);
            }
            Err(failure) => self.fails(&failure.error),
        }
        applied.map(|(outcomes, _)| outcomes)
    }

    /// Answers the outcomes, and how many bytes the log has.
    fn run(
        &self,
        connection: &DatabaseConnection,
        updates: &[(&Update, DateTime<Utc>)],
        atomicity: Atomicity,
        patience: Option<Duration>,
        ahead: Option<Ahead>,
    ) -> Result<(Vec<Result<Updated, Error>>, u64), Failure> {
        if let Some(patience) = patience {
            wait(connection, patience)?;
        }
        // Nothing in it waits: it is compiled with the blocking twin.
        let lock = statements::RowLock::Wait(None);
        let apply = async {
            let begun = transaction::begin(connection, Engine::Sqlite).await?;
            transaction::apply(begun, Engine::Sqlite, updates, lock, atomicity, ahead).await
        };
        let outcomes = self.runtime.block_on(apply)?;
        if patience.is_some() {
            wait(connection, PATIENCE).map_err(Failure::at_commit)?;
        }
        // What is stored in files without a name is lost.
        let log_bytes = self.place.check().map_err(Failure::at_commit)?;
        Ok((outcomes, log_bytes))
    }

    /// The connection; a new one after a failure.
    fn connect(&mut self) -> Result<DatabaseConnection, Error> {
        if let (Some(connection), false) = (&self.connection, self.has_failed) {
            return Ok(connection.clone());
        }
        if let Some(connection) = &self.connection {
            // SQLite has rolled back by itself after some failures. Then this fails, and there is nothing to do.
            let _ = connection.execute_unprepared("ROLLBACK");
        }
        self.place.check()?;
        let before = self.place.database()?;
        let connection = connect(&self.options)?;
        self.place.settle(before)?;
        self.connection = Some(connection.clone());
        self.has_failed = false;
        Ok(connection)
    }

    /// After a corruption was found nothing is stored: to write may destroy more.
    fn check_sound(&self) -> Result<(), Error> {
        if self.fault == Some(Fault::Corrupt) {
            return Err(Error::Unavailable(Corrupted.into()));
        }
        Ok(())
    }

    /// A transaction has failed.
    fn fails(&mut self, error: &Error) {
        if let Some(connection) = &self.connection {
            // As in `connect`: other processes may have their turn.
            let _ = connection.execute_unprepared("ROLLBACK");
        }
        if let Some(fault) = fault::of(error)
            && fault != Fault::Locked
            && self.fault != Some(Fault::Corrupt)
        {
            if self.fault != Some(fault) {
                tracing::error!(cause = fault.label(), error = chain(error), "nothing is stored");
            }
            self.fault = Some(fault);
            if fault == Fault::FileMoved {
                self.rescue();
            }
        }
    }

    /// Brings what the log holds into the database where somebody has deleted the log, which goes with its last connection.
    fn rescue(&mut self) {
        let Some(connection) = &self.connection else { return };
        if self.is_rescued || !self.place.lacks_log() {
            return;
        }
        match checkpoint(connection, "FULL") {
            Ok(Checkpoint { is_complete: true, .. }) => {
                self.is_rescued = true;
                tracing::warn!("the write-ahead log was deleted; the database has its content");
            }
            Ok(_) => tracing::warn!("the write-ahead log was deleted; trying to save its content"),
            Err(error) => {
                tracing::error!(error = chain(&error), "the write-ahead log was deleted");
            }
        }
    }

    /// Has the next transaction begin the log anew where it is too long, since there was always somebody who read it.
    fn shorten_log(&mut self, connection: &DatabaseConnection, bytes: u64) {
        let is_due = self.shortened.is_none_or(|tried| tried.elapsed() > SHORTEN_INTERVAL);
        if bytes <= LOG_BYTES + LOG_BYTES / 8 || !is_due {
            return;
        }
        let shorten = || {
            wait(connection, SHORTEN_PATIENCE)?;
            let shortened = checkpoint(connection, "RESTART");
            wait(connection, PATIENCE)?;
            shortened
        };
        match shorten() {
            Ok(Checkpoint { is_complete, pages }) => {
                tracing::debug!(is_complete, pages, "the write-ahead log is long");
            }
            Err(error) => tracing::warn!(error = chain(&error), "no checkpoint"),
        }
        self.shortened = Some(Instant::now());
    }

    /// Proves that an update could be stored.
    pub(super) fn probe(&mut self) -> Result<(), Error> {
        self.check_sound()?;
        let probed = self.try_probe();
        if let Err(error) = &probed {
            self.probing = None;
            let fault = fault::of(error);
            if fault == Some(Fault::Locked) {
                // Another process stores something, as it may; but not for longer than an update waits.
                let since = *self.locked_since.get_or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE {
                    return Ok(());
                }
            }
            if matches!(fault, Some(Fault::Corrupt | Fault::FileMoved)) {
                self.has_failed = true;
                self.fails(error);
            }
        } else {
            self.fault = None;
        }
        self.locked_since = self.locked_since.filter(|_| probed.is_err());
        probed
    }

    fn try_probe(&mut self) -> Result<(), Error> {
        self.connect()?;
        self.place.check()?;
        let probing = match &self.probing {
            Some(probing) => probing,
            None => {
                let connection = connect(&self.options)?;
                connection.execute_unprepared(PROBE_SESSION)?;
                self.probing.insert(connection)
            }
        };
        probing.execute_unprepared("BEGIN IMMEDIATE")?;
        let written = probing.execute_unprepared(PROBE);
        let _ = probing.execute_unprepared("ROLLBACK");
        written?;
        if self.fault.is_some() {
            commit_nothing(probing)?;
        }
        Ok(())
    }
}

/// Commits a page as it was: a commit syncs the log, which a rollback does not.
fn commit_nothing(connection: &DatabaseConnection) -> Result<(), Error> {
    let version = Statement::from_string(DbBackend::Sqlite, "PRAGMA user_version");
    let version = connection.query_one_raw(version)?;
    let version: i32 = version.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
    connection.execute_unprepared(&format!("PRAGMA user_version = {version}"))?;
    Ok(())
}

/// Sets how long a connection waits for another writer.
fn wait(connection: &DatabaseConnection, patience: Duration) -> Result<(), Error> {
    let milliseconds = patience.as_millis().max(1);
    connection.execute_unprepared(&format!("PRAGMA busy_timeout = {milliseconds}"))?;
    Ok(())
}
