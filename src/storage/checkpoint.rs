//! Checkpoints SQLite's write-ahead log in the background, so that the writer has little left to do
//! when the log is full.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{SyncSender, sync_channel},
};

use super::{
    connect::Options,
    place::Place,
    sqlite_connection::{LOG_PAGES, SqliteConnection},
};
use crate::domain::error::{Error, chain};

/// Stored updates between checkpoints. A commit counts as two more, for its own pages. A shorter
/// interval would copy the same pages again and delay commits.
const CHECKPOINT_UPDATES: usize = 2048;
/// The interval for a nearly full log: the writer itself copies all pages that remain.
const URGENT_CHECKPOINT_UPDATES: usize = 256;

/// A thread with its own connection. It ends when this handle is dropped.
pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    nearly_full: Arc<AtomicBool>,
    stored: usize,
}

impl Checkpoints {
    /// Starts the thread.
    pub(super) fn start(options: Options, place: Arc<Place>) -> Self {
        let (wake, woken) = sync_channel(1);
        let nearly_full = Arc::new(AtomicBool::new(false));
        let full = Arc::clone(&nearly_full);
        std::thread::spawn(move || {
            let mut connection = None;
            for () in woken {
                // The writer reports a deleted or replaced file.
                if place.check().is_err() {
                    continue;
                }
                match passive(&options, &mut connection) {
                    Ok(pages) => full.store(pages > LOG_PAGES / 4 * 3, Ordering::Relaxed),
                    Err(error) => {
                        // The writer runs the checkpoint then.
                        tracing::warn!(error = chain(&error), "checkpoint failed");
                        connection = None;
                    }
                }
            }
        });
        Self { wake, nearly_full, stored: 0 }
    }

    /// Counts stored updates and wakes the thread when a checkpoint is due.
    pub(super) fn stored(&mut self, updates: usize) {
        self.stored += updates + 2;
        let full = self.nearly_full.load(Ordering::Relaxed);
        if self.stored >= if full { URGENT_CHECKPOINT_UPDATES } else { CHECKPOINT_UPDATES } {
            self.stored = 0;
            // A running checkpoint, or the next one, covers these updates.
            let _ = self.wake.try_send(());
        }
    }
}

/// Runs a passive checkpoint. Returns the number of pages in the log.
fn passive(options: &Options, connection: &mut Option<SqliteConnection>) -> Result<i32, Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(SqliteConnection::open(options)?),
    };
    Ok(checkpoint(connection, "PASSIVE")?.pages)
}

/// The result of a checkpoint.
pub(super) struct Checkpoint {
    /// Whether the checkpoint completed in its mode.
    pub(super) is_complete: bool,
    /// The number of pages in the log.
    pub(super) pages: i32,
}

/// Runs a checkpoint in a mode of SQLite.
pub(super) fn checkpoint(connection: &SqliteConnection, mode: &str) -> Result<Checkpoint, Error> {
    // Columns: busy, pages in the log, checkpointed pages.
    let checkpoint = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), |row| {
        Ok(Checkpoint { is_complete: row.get::<_, i32>(0)? == 0, pages: row.get(1)? })
    })?;
    Ok(checkpoint)
}
