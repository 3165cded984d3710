//! The work of the writer thread on SQLite: it owns the only connection that stores updates.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use super::{
    checkpoint::{Checkpoint, Checkpoints, checkpoint},
    connect::{ACQUIRE_TIMEOUT, Engine, Options},
    database::Database,
    failure::Failure,
    not_ready::{Corrupted, fault_of},
    place::Place,
    query_telemetry,
    sql::{
        statements::RowLock,
        transaction::{self, Atomicity, Pending},
    },
    sqlite_connection::{LOG_BYTES, SqliteConnection},
};
use crate::{
    domain::{
        error::{Error, chain},
        readiness::Fault,
        update::Updated,
    },
    trace::Span,
};

/// A small cache, so that the probe writes to the log before it ends. No lock wait: updates queue.
const PROBE_SESSION: &str = "PRAGMA cache_size = 10; PRAGMA busy_timeout = 0";
/// More than most updates need: 128 KiB.
const PROBE: &str =
    "INSERT INTO settings (name, value) VALUES ('readiness probe', hex(zeroblob(65536)))";

/// How often, and for how long, the writer waits for readers of an oversized log.
const SHORTEN_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEN_TIMEOUT: Duration = Duration::from_millis(100);

/// The only connection that stores updates. It is opened on first use.
pub(super) struct Writer {
    options: Options,
    database: Arc<Database>,
    place: Arc<Place>,
    runtime: Handle,
    checkpoints: Checkpoints,
    /// Kept after a failure until a new connection is open: closing the last one deletes the log.
    connection: Option<SqliteConnection>,
    /// Whether the last transaction failed or panicked.
    has_failed: bool,
    /// The last fault, until a transaction is stored.
    fault: Option<Fault>,
    probing: Option<SqliteConnection>,
    /// When a probe first found the write lock held by another process.
    locked_since: Option<Instant>,
    /// Whether a checkpoint saved the content of a deleted log.
    is_rescued: bool,
    /// The last attempt to shorten the log.
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

    /// Applies updates, in their order, in one transaction. `patience` shortens the wait for
    /// another writer.
    pub(super) fn apply(
        &mut self,
        updates: &[Pending<'_>],
        atomicity: Atomicity,
        patience: Option<Duration>,
        span: &Span,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        self.check_sound()?;
        let connection = self.connect()?;
        // Reset on success only, so that a panic counts as a failure.
        self.has_failed = true;
        let applied = self.run(&connection, updates, atomicity, patience, span);
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

    /// Returns the outcomes and the size of the log in bytes.
    fn run(
        &self,
        connection: &SqliteConnection,
        updates: &[Pending<'_>],
        atomicity: Atomicity,
        patience: Option<Duration>,
        span: &Span,
    ) -> Result<(Vec<Result<Updated, Error>>, u64), Failure> {
        if let Some(patience) = patience {
            wait(connection, patience)?;
        }
        // The future never yields: the connection runs its statements on this thread.
        let (engine, lock) = (Engine::Sqlite, RowLock::Wait(None));
        let apply = async {
            let begin = connection.begin();
            let begun = query_telemetry::statement(engine, span, "BEGIN", "", begin).await?;
            transaction::apply(begun, (engine, span), updates, lock, atomicity).await
        };
        let outcomes = self.runtime.block_on(apply)?;
        if patience.is_some() {
            wait(connection, ACQUIRE_TIMEOUT).map_err(Failure::at_commit)?;
        }
        // An update in a deleted or replaced file is lost.
        let log_bytes = self.place.check().map_err(Failure::at_commit)?;
        Ok((outcomes, log_bytes))
    }

    /// Returns the connection, or opens a new one after a failure.
    fn connect(&mut self) -> Result<SqliteConnection, Error> {
        if let (Some(connection), false) = (&self.connection, self.has_failed) {
            return Ok(connection.clone());
        }
        if let Some(connection) = &self.connection {
            // Fails if SQLite has already rolled back by itself: then nothing is left to do.
            let _ = connection.execute_batch("ROLLBACK");
        }
        self.place.check()?;
        let before = self.place.database()?;
        let connection = SqliteConnection::open(&self.options)?;
        self.place.settle(before)?;
        self.connection = Some(connection.clone());
        self.has_failed = false;
        Ok(connection)
    }

    /// Rejects updates after a corruption: a write may destroy more data.
    fn check_sound(&self) -> Result<(), Error> {
        if self.fault == Some(Fault::Corrupt) {
            return Err(Error::Unavailable(Corrupted.into()));
        }
        Ok(())
    }

    /// Rolls back a failed transaction and records its fault.
    fn fails(&mut self, error: &Error) {
        if let Some(connection) = &self.connection {
            // As in `connect`. It also releases the write lock for other processes.
            let _ = connection.execute_batch("ROLLBACK");
        }
        if let Some(fault) = fault_of(error)
            && fault != Fault::Locked
            && self.fault != Some(Fault::Corrupt)
        {
            if self.fault != Some(fault) {
                tracing::error!(
                    cause = fault.label(),
                    error = chain(error),
                    "updates cannot be stored"
                );
            }
            self.fault = Some(fault);
            if fault == Fault::FileMoved {
                self.rescue();
            }
        }
    }

    /// Checkpoints a deleted log: its content disappears with its last connection.
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

    /// Restarts an oversized log, which overlapping readers kept SQLite from restarting.
    fn shorten_log(&mut self, connection: &SqliteConnection, bytes: u64) {
        let is_due = self.shortened.is_none_or(|tried| tried.elapsed() > SHORTEN_INTERVAL);
        if bytes <= LOG_BYTES + LOG_BYTES / 8 || !is_due {
            return;
        }
        let shorten = || {
            wait(connection, SHORTEN_TIMEOUT)?;
            let shortened = checkpoint(connection, "RESTART");
            wait(connection, ACQUIRE_TIMEOUT)?;
            shortened
        };
        match shorten() {
            Ok(Checkpoint { is_complete, pages }) => {
                tracing::debug!(is_complete, pages, "the write-ahead log is long");
            }
            Err(error) => tracing::warn!(error = chain(&error), "checkpoint failed"),
        }
        self.shortened = Some(Instant::now());
    }

    /// Checks that an update could be stored.
    pub(super) fn probe(&mut self) -> Result<(), Error> {
        self.check_sound()?;
        let probed = self.try_probe();
        if let Err(error) = &probed {
            self.probing = None;
            let fault = fault_of(error);
            if fault == Some(Fault::Locked) {
                // Another process may hold the write lock, but not longer than an update waits.
                let since = *self.locked_since.get_or_insert_with(Instant::now);
                if since.elapsed() < ACQUIRE_TIMEOUT {
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
                let connection = SqliteConnection::open(&self.options)?;
                connection.execute_batch(PROBE_SESSION)?;
                self.probing.insert(connection)
            }
        };
        probing.execute_batch("BEGIN IMMEDIATE")?;
        let written = probing.execute_batch(PROBE);
        let _ = probing.execute_batch("ROLLBACK");
        written?;
        if self.fault.is_some() {
            commit_nothing(probing)?;
        }
        Ok(())
    }
}

/// Commits an unchanged page, to prove that the log can be synced. A rollback does not sync.
fn commit_nothing(connection: &SqliteConnection) -> Result<(), Error> {
    let version: i32 = connection.query_row("PRAGMA user_version", |row| row.get(0))?;
    connection.execute_batch(&format!("PRAGMA user_version = {version}"))?;
    Ok(())
}

/// Sets the busy timeout of a connection.
fn wait(connection: &SqliteConnection, patience: Duration) -> Result<(), Error> {
    let milliseconds = patience.as_millis().max(1);
    connection.execute_batch(&format!("PRAGMA busy_timeout = {milliseconds}"))?;
    Ok(())
}
