//! One who watches: reads the change log up to where this replica's reader is, and then takes what that finds.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{Receiver, error::RecvError},
};

use super::{Feed, Found, PAGE};
use crate::domain::{
    error::Error,
    listing::LoggedChange,
    rules::Scope,
    watch::{Portion, Position, Watch, Watched},
};

/// One who watches.
pub(in crate::storage) struct Watcher {
    feed: Arc<Feed>,
    watched: Watched,
    position: Position,
    /// What the reader finds; none while this one is behind.
    receiver: Option<Receiver<Arc<Found>>>,
    _room: OwnedSemaphorePermit,
}

impl Watcher {
    pub(super) fn new(
        feed: Arc<Feed>,
        watched: Watched,
        position: Position,
        receiver: Option<Receiver<Arc<Found>>>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { feed, watched, position, receiver, _room: room }
    }

    /// Takes for seen what is there: the reader may be a little behind it. What comes meanwhile may be told.
    pub(super) async fn pass_by(&mut self) -> Result<(), Error> {
        let newest = self.feed.database.newest_changes(1).await?.pop();
        loop {
            let (user_id, database) = (self.watched.user_id, &self.feed.database);
            let entries = database.changes_behind(&self.position, user_id, PAGE).await?;
            let none = BTreeSet::new();
            self.see(&entries, &none, 0);
            let last = entries.last().map(|entry| entry.id);
            if (entries.len() as u64) < PAGE || last >= newest {
                return Ok(());
            }
        }
    }

    /// Reads one page itself. With the last one it has seen what the reader has seen, and goes on with that.
    async fn catch_up(&mut self) -> Result<Portion, Error> {
        let (tail, receiver) = self.feed.subscribe().await?;
        let user_id = self.watched.user_id;
        let entries = self.feed.database.changes_behind(&self.position, user_id, PAGE).await?;
        let reached = self.reached(&entries).await?;
        if (entries.len() as u64) < PAGE {
            self.receiver = Some(receiver);
        }
        Ok(self.see(&entries, &reached, tail.floor()))
    }

    /// Takes entries that were not seen before, and that end at `floor` what is missing.
    fn see(
        &mut self,
        entries: &[Arc<LoggedChange>],
        reached: &BTreeSet<i64>,
        floor: i64,
    ) -> Portion {
        let mut changes = Vec::new();
        for entry in entries {
            match self.watched.user_id {
                None => self.position.see(entry.id),
                // Entries of one user come in the order of their ids, and those of others do not matter.
                Some(user_id) if user_id == entry.user_id => self.position.see_alone(entry.id),
                Some(_) => {}
            }
            // What comes later among these entries is not missing for ever.
            self.position.settle(floor.min(entry.id));
            if reached.contains(&entry.user_id) {
                changes.push((Arc::clone(entry), self.position.clone()));
            }
        }
        changes
    }

    /// Those of the users of entries that are watched.
    async fn reached(&self, entries: &[Arc<LoggedChange>]) -> Result<BTreeSet<i64>, Error> {
        let users = entries.iter().map(|entry| entry.user_id);
        let users: BTreeSet<_> =
            users.filter(|id| self.watched.user_id.is_none_or(|user| user == *id)).collect();
        match self.watched.scope {
            Scope::AssignedTo(manager) if !users.is_empty() => {
                self.feed.database.assigned(manager, &users).await
            }
            Scope::All | Scope::AssignedTo(_) => Ok(users),
        }
    }
}

#[async_trait]
impl Watch for Watcher {
    async fn next(&mut self) -> Result<Portion, Error> {
        loop {
            let Some(receiver) = &mut self.receiver else { return self.catch_up().await };
            let found = match receiver.recv().await {
                Ok(found) => found,
                // It was too slow.
                Err(RecvError::Lagged(_) | RecvError::Closed) => {
                    self.receiver = None;
                    continue;
                }
            };
            // First: of many who watch one user each, most go on from here.
            let user = self.watched.user_id;
            let own = |entry: &&Arc<LoggedChange>| user.is_none_or(|user| user == entry.user_id);
            let unseen = found.entries.iter().filter(own);
            let unseen = unseen.filter(|entry| !self.position.contains(entry.id));
            let unseen: Vec<_> = unseen.cloned().collect();
            if unseen.is_empty() {
                continue;
            }
            // If this is dropped meanwhile, the log is read again.
            let receiver = self.receiver.take();
            let reached = self.reached(&unseen).await?;
            self.receiver = receiver;
            return Ok(self.see(&unseen, &reached, found.floor));
        }
    }

    fn position(&self) -> &Position {
        &self.position
    }

    fn is_current(&self) -> bool {
        self.receiver.is_some()
    }
}
