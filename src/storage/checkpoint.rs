//! Brings what SQLite's log of changes holds into the database while the writer goes on, so that it has little left to do
//! itself when its log is full.

use std::sync::mpsc::{SyncSender, sync_channel};

use sea_orm_blocking::{ConnectionTrait, DatabaseConnection};

use super::{blocking::connect, connect::Options};
use crate::domain::error::{Error, chain};

/// After how many stored updates it is done.
const INTERVAL: usize = 256;

/// A thread with a connection of its own. It ends when this is dropped.
pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    stored: usize,
}

impl Checkpoints {
    /// Starts the thread.
    pub(super) fn start(options: Options) -> Self {
        let (wake, woken) = sync_channel(1);
        std::thread::spawn(move || {
            let mut connection = None;
            for () in woken {
                if let Err(error) = checkpoint(&options, &mut connection) {
                    // The writer does it, then.
                    tracing::warn!(error = chain(&error), "no checkpoint");
                    connection = None;
                }
            }
        });
        Self { wake, stored: 0 }
    }

    /// Tells that so many updates were stored.
    pub(super) fn stored(&mut self, updates: usize) {
        self.stored += updates;
        if self.stored >= INTERVAL {
            self.stored = 0;
            // One that is under way brings these as well, or the next one.
            let _ = self.wake.try_send(());
        }
    }
}

fn checkpoint(options: &Options, connection: &mut Option<DatabaseConnection>) -> Result<(), Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(connect(options)?),
    };
    connection.execute_unprepared("PRAGMA wal_checkpoint(PASSIVE)")?;
    Ok(())
}
