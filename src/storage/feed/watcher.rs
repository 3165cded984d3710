//! A subscription: reads the change log up to the position of this replica's reader, and then takes
//! what that finds.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

use super::{
    Feed, MAX_PAGE, PageSize, beyond_end,
    places::Place,
    recent::{Announced, ContiguousEnd},
    tail,
};
use crate::domain::{
    error::Error,
    rules::Visibility,
    watch::{Charge, Position, SharedChange, SubscriptionFilter, Watch, WatchBudget},
};

/// The bytes of texts that a subscription reads at once.
const PAGE_BYTES: usize = 256 << 10;
/// The bytes that it reserves before it reads: a page, and the entry that goes over its bound.
const RESERVED_BYTES: usize = PAGE_BYTES + (128 << 10);
/// How long it waits for memory.
const RESERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A subscription.
pub(in crate::storage) struct Watcher {
    feed: Arc<Feed>,
    watched: SubscriptionFilter,
    /// Behind the entry that was answered last.
    position: Position,
    /// Entries behind the position, in the order of their ids.
    queue: VecDeque<Arc<SharedChange>>,
    /// The users among those of the queue that are watched.
    reached: BTreeSet<i64>,
    /// Up to this id every entry was read once the queue is empty, if there is a receiver.
    contiguous_end: ContiguousEnd,
    /// What the reader finds; none while this one is behind.
    receiver: Option<Receiver<Announced>>,
    size: PageSize,
    /// The memory of the gaps that it began with: later ones are few.
    _gaps: Charge,
    _place: Place,
}

impl Watcher {
    pub(super) fn new(
        feed: Arc<Feed>,
        watched: SubscriptionFilter,
        position: Position,
        receiver: Option<Receiver<Announced>>,
        place: Place,
    ) -> Self {
        let gaps = feed.budget.charge_entry(position.memory());
        Self {
            _gaps: gaps,
            feed,
            watched,
            position,
            queue: VecDeque::new(),
            reached: BTreeSet::new(),
            contiguous_end: ContiguousEnd::default(),
            receiver,
            size: PageSize::default(),
            _place: place,
        }
    }

    /// Takes all visible entries as seen: the reader may be a little behind them.
    pub(super) async fn skip_visible(&mut self) -> Result<(), Error> {
        let newest = self.feed.database.newest_changes(1).await?.pop();
        let user_id = self.watched.user_id;
        loop {
            let ids = self.feed.database.ids_behind(&self.position, user_id, MAX_PAGE).await?;
            ids.iter().for_each(|id| self.observe(*id));
            // Entries that come meanwhile may be answered.
            if (ids.len() as u64) < MAX_PAGE || ids.last().copied() >= newest {
                break;
            }
        }
        tail::note_time(&self.feed.database, &mut self.position).await
    }

    /// Reads one page of the log. With the last page it has seen what the reader has seen, and goes
    /// on with what that finds.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let (tail, receiver) = self.feed.subscribe().await?;
        if self.position.seen() > tail.seen() {
            self.feed.check_end(&self.position).await?;
        }
        let deadline = Instant::now() + RESERVE_TIMEOUT;
        let reserved = self.feed.budget.reserve(RESERVED_BYTES, deadline).await;
        let reserved = reserved.ok_or(Error::Overloaded)?;
        let (user_id, limit) = (self.watched.user_id, self.size.0);
        // What the reader has found is not announced again: a server that does not have it is no end.
        let newest = if tail.seen() > self.position.seen() { tail.seen() } else { 0 };
        let bound = (limit, PAGE_BYTES);
        let page = self.feed.database.changes_behind(&self.position, user_id, newest, bound);
        let page = page.await?;
        let share = |entry| SharedChange::new(entry, &self.feed.budget);
        let length = page.len();
        if user_id.is_none() {
            // Entries whose user cannot be read are nobody's.
            page.left_out.iter().for_each(|id| self.position.observe(*id));
        }
        let entries = page.items.into_iter().map(share).collect();
        drop(reserved);
        let reached = self.reached(&entries).await?;
        if !self.size.adapt(length, page.is_cut) {
            self.receiver = Some(receiver);
        }
        (self.queue, self.reached, self.contiguous_end) =
            (entries, reached, ContiguousEnd::of(&tail));
        Ok(())
    }

    /// Waits for what the reader finds, or reads the log if this subscription is behind.
    async fn fill(&mut self) -> Result<(), Error> {
        let Some(receiver) = &mut self.receiver else { return self.catch_up().await };
        let found = match receiver.recv().await {
            Ok(found) => found.upgrade(),
            Err(RecvError::Lagged(_) | RecvError::Closed) => None,
        };
        let Some(found) = found else {
            // It was too slow.
            self.receiver = None;
            return Ok(());
        };
        if found.is_cut {
            return Err(beyond_end());
        }
        // Filter by user first: most subscriptions to one user skip the portion here.
        let user = self.watched.user_id;
        let own = |entry: &&Arc<SharedChange>| user.is_none_or(|user| user == entry.user_id);
        let unseen = found.entries.iter().filter(own);
        let unseen = unseen.filter(|entry| !self.position.contains(entry.id));
        let unseen: VecDeque<_> = unseen.cloned().collect();
        if unseen.is_empty() {
            self.contiguous_end = found.contiguous_end;
            return Ok(());
        }
        // If this is dropped meanwhile, the log is read again.
        let receiver = self.receiver.take();
        let reached = self.reached(&unseen).await?;
        (self.receiver, self.contiguous_end) = (receiver, found.contiguous_end);
        (self.queue, self.reached) = (unseen, reached);
        Ok(())
    }

    /// Moves the position behind the next entry of the queue.
    fn advance(&mut self, entry: &SharedChange) {
        self.observe(entry.id);
        self.position.note_time(entry.id, entry.time);
        // Entries that come later in the queue are not missing for ever.
        self.position.expire_gaps(self.contiguous_end.id.min(entry.id));
    }

    /// Moves the position past everything that was read and concerns others: it must not grow older
    /// than the log is kept.
    fn skip_read(&mut self) {
        if self.receiver.is_some() {
            let ContiguousEnd { id, time } = self.contiguous_end;
            self.position.expire_gaps(id);
            self.position.observe_without_gap(id);
            time.into_iter().for_each(|time| self.position.note_time(id, time));
        }
    }

    fn observe(&mut self, id: i64) {
        match self.watched.user_id {
            None => self.position.observe(id),
            // Entries of one user come in the order of their ids, and those of others do not matter.
            Some(_) => self.position.observe_without_gap(id),
        }
    }

    /// The users of entries that are watched.
    async fn reached(&self, entries: &VecDeque<Arc<SharedChange>>) -> Result<BTreeSet<i64>, Error> {
        let users: BTreeSet<_> = entries.iter().map(|entry| entry.user_id).collect();
        match self.watched.visibility {
            Visibility::AssignedTo(manager) if !users.is_empty() => {
                self.feed.database.assigned(manager, &users).await
            }
            Visibility::All | Visibility::AssignedTo(_) => Ok(users),
        }
    }
}

#[async_trait]
impl Watch for Watcher {
    async fn next(&mut self) -> Result<Arc<SharedChange>, Error> {
        loop {
            while let Some(entry) = self.queue.pop_front() {
                self.advance(&entry);
                if self.reached.contains(&entry.user_id) {
                    return Ok(entry);
                }
            }
            self.skip_read();
            self.fill().await?;
        }
    }

    fn position(&self) -> &Position {
        &self.position
    }

    fn is_current(&self) -> bool {
        self.receiver.is_some() && self.queue.is_empty()
    }

    fn release(&mut self) {
        if !self.queue.is_empty() {
            self.queue = VecDeque::new();
            self.receiver = None;
        }
    }

    fn budget(&self) -> &Arc<WatchBudget> {
        &self.feed.budget
    }
}
