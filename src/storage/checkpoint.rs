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
    pub(super) fn start(options: Options) -> Self {
        let (wake, woken) = sync_channel(1);
        let nearly_full = Arc::new(AtomicBool::new(false));
        let full = Arc::clone(&nearly_full);
        std::thread::spawn(move || {
            let mut connection = None;
            for () in woken {
                match checkpoint(&options, &mut connection) {
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
fn checkpoint(
    options: &Options,
    connection: &mut Option<DatabaseConnection>,
) -> Result<i32, Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(connect(options)?),
    };
    let checkpoint = Statement::from_string(DbBackend::Sqlite, "PRAGMA wal_checkpoint(PASSIVE)");
    // Whether it could, the pages of the log, and those of them that are in the database.
    let row = connection.query_one_raw(checkpoint)?;
    Ok(row.map(|row| row.try_get_by_index(1)).transpose()?.unwrap_or_default())
}
