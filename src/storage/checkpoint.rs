//! Brings what SQLite's log of changes holds into the database while the writer goes on, so that it has little left to do
//! itself when its log is full.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::{SyncSender, sync_channel},
};

use sea_orm_blocking::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::{
    blocking::{LOG_PAGES, connect},
    connect::Options,
    place::Place,
};
use crate::domain::error::{Error, chain};

/// After how many stored updates it is done, where each commit counts as two more: it has pages of its own. More often it would
/// bring the same pages again and again, and hold up commits.
const INTERVAL: usize = 2048;
/// The same where the log is nearly full: what is not in the database then the writer brings itself.
const SHORT_INTERVAL: usize = 256;

/// A thread with a connection of its own. It ends when this is dropped.
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
                // Of a file that was deleted or replaced the writer tells.
                if place.check().is_err() {
                    continue;
                }
                match passive(&options, &mut connection) {
                    Ok(pages) => full.store(pages > LOG_PAGES / 4 * 3, Ordering::Relaxed),
                    Err(error) => {
                        // The writer does it, then.
                        tracing::warn!(error = chain(&error), "no checkpoint");
                        connection = None;
                    }
                }
            }
        });
        Self { wake, nearly_full, stored: 0 }
    }

    /// Tells that so many updates were stored.
    pub(super) fn stored(&mut self, updates: usize) {
        self.stored += updates + 2;
        let full = self.nearly_full.load(Ordering::Relaxed);
        if self.stored >= if full { SHORT_INTERVAL } else { INTERVAL } {
            self.stored = 0;
            // One that is under way brings these as well, or the next one.
            let _ = self.wake.try_send(());
        }
    }
}

/// Answers how many pages the log has.
fn passive(options: &Options, connection: &mut Option<DatabaseConnection>) -> Result<i32, Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(connect(options)?),
    };
    Ok(checkpoint(connection, "PASSIVE")?.pages)
}

/// What a checkpoint has done.
pub(super) struct Checkpoint {
    /// Whether it has done what its mode says.
    pub(super) is_complete: bool,
    /// How many pages the log has.
    pub(super) pages: i32,
}

/// Brings what the log holds into the database, in a mode that SQLite knows.
pub(super) fn checkpoint(connection: &DatabaseConnection, mode: &str) -> Result<Checkpoint, Error> {
    let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
    let checkpoint = Statement::from_string(DbBackend::Sqlite, checkpoint);
    // Whether somebody was in the way, the pages of the log, and those of them that are in the database.
    let Some(row) = connection.query_one_raw(checkpoint)? else {
        return Ok(Checkpoint { is_complete: false, pages: 0 });
    };
    let busy: i32 = row.try_get_by_index(0)?;
    Ok(Checkpoint { is_complete: busy == 0, pages: row.try_get_by_index(1)? })
}
