//! The change log as it grows: one reader for all who watch it on this replica, and the wake-up calls for it.

mod tail;
pub(super) mod wake;
mod watcher;

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, broadcast};

pub(super) use self::wake::Wake;
use self::watcher::Watcher;
use super::repository::Database;
use crate::domain::{
    error::Error,
    listing::LoggedChange,
    watch::{Position, Watched},
};

/// How many watchers a replica has at most.
const WATCHERS: usize = 1024;
/// How many entries are read at once.
const PAGE: u64 = 1000;
/// How many portions wait for a watcher. One that is slower reads the log itself.
const PORTIONS: usize = 64;

/// What the reader has found.
#[derive(Debug)]
struct Found {
    entries: Vec<Arc<LoggedChange>>,
    /// Up to this id nothing is missing any more.
    floor: i64,
}

/// The growing change log.
#[derive(Debug)]
pub(super) struct Feed {
    database: Arc<Database>,
    /// What the reader has seen; none where nobody watches and it does not run.
    tail: Mutex<Option<Position>>,
    found: broadcast::Sender<Arc<Found>>,
    room: Arc<Semaphore>,
}

impl Feed {
    pub(super) fn new(database: Arc<Database>) -> Self {
        let (found, _) = broadcast::channel(PORTIONS);
        Self { database, tail: Mutex::default(), found, room: Arc::new(Semaphore::new(WATCHERS)) }
    }

    /// Watches from a position on, or from now on.
    pub(super) async fn watch(
        self: &Arc<Self>,
        from: Option<Position>,
        watched: Watched,
    ) -> Result<Watcher, Error> {
        let room: OwnedSemaphorePermit =
            Arc::clone(&self.room).try_acquire_owned().map_err(|_| Error::Overloaded)?;
        let (tail, receiver) = self.subscribe().await?;
        let feed = Arc::clone(self);
        Ok(match from {
            Some(from) => Watcher::new(feed, watched, from, None, room),
            None => {
                let mut watcher = Watcher::new(feed, watched, tail, Some(receiver), room);
                watcher.pass_by().await?;
                watcher
            }
        })
    }

    /// What the reader has seen, and all that it finds from then on.
    async fn subscribe(
        self: &Arc<Self>,
    ) -> Result<(Position, broadcast::Receiver<Arc<Found>>), Error> {
        let mut tail = self.tail.lock().await;
        let position = match &*tail {
            Some(position) => position.clone(),
            None => {
                let position = tail::start(&self.database).await?;
                *tail = Some(position.clone());
                tokio::spawn(tail::run(Arc::clone(self)));
                position
            }
        };
        Ok((position, self.found.subscribe()))
    }
}
