//! A subscription reads the change log up to the position of this replica's reader, and then
//! receives the reader's entries.

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
    page_size::{MAX_PAGE, PageSize},
    places::Place,
    recent::{Announced, ContiguousEnd},
    state::{Feed, beyond_end},
    tail,
};
use crate::{
    domain::{
        error::Error,
        rules::Visibility,
        watch::{
            Charge, Position, SharedChange, SubscriptionFilter, Watch, WatchBudget, WatchStart,
        },
    },
    trace::Span,
};

/// Text bytes of a page, after which reading stops.
const PAGE_BYTES: usize = 256 << 10;
/// Bytes reserved before a read: a page, plus the entry that exceeds the page's limit.
const RESERVED_BYTES: usize = PAGE_BYTES + (128 << 10);
/// Timeout for reserving memory.
const RESERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A subscription.
pub(in crate::storage) struct Watcher {
    feed: Arc<Feed>,
    watched: SubscriptionFilter,
    /// The position after the last returned entry.
    position: Position,
    /// Entries after the position, in id order.
    queue: VecDeque<Arc<SharedChange>>,
    /// The users of queued entries that the subscriber may see.
    reached: BTreeSet<i64>,
    /// With a receiver and an empty queue, every entry up to this id was read.
    contiguous_end: ContiguousEnd,
    /// Receives the reader's entries. `None` while the subscription is behind the reader.
    receiver: Option<Receiver<Announced>>,
    size: PageSize,
    /// The memory of the first position's gaps. Later gaps are few.
    _gaps: Charge,
    _place: Place,
}

impl Feed {
    /// Subscribes.
    pub(in crate::storage) async fn watch(
        self: &Arc<Self>,
        span: &Span,
        start: WatchStart,
        mut watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Watcher, Error> {
        let place = self.places.take(caller)?;
        if let WatchStart::Since(since) = start {
            watched.entries.since = Some(since);
        }
        let from = self.first_position(span, start).await?;
        let (tail, receiver) = tail::subscribe(self, span).await?;
        let feed = Arc::clone(self);
        Ok(match from {
            Some(from) => Watcher::new(feed, watched, from, None, place),
            None => {
                let mut watcher = Watcher::new(feed, watched, tail, Some(receiver), place);
                watcher.skip_visible(span).await?;
                watcher
            }
        })
    }
}

impl Watcher {
    fn new(
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

    /// Marks all visible entries as seen: the reader may be slightly behind.
    async fn skip_visible(&mut self, span: &Span) -> Result<(), Error> {
        let newest = self.feed.database.newest_changes(span, 1).await?.pop();
        let user_id = self.watched.user_id;
        loop {
            let ids =
                self.feed.database.ids_behind(span, &self.position, user_id, MAX_PAGE).await?;
            ids.iter().for_each(|id| self.observe(*id));
            // Entries that arrive during the loop may be returned.
            if (ids.len() as u64) < MAX_PAGE || ids.last().copied() >= newest {
                break;
            }
        }
        tail::note_time(&self.feed.database, span, &mut self.position).await
    }

    /// Reads one page of the log. After the last page, the subscription receives the reader's
    /// entries.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let (tail, receiver) = tail::subscribe(&self.feed, &Span::default()).await?;
        if self.position.seen() > tail.seen() {
            self.feed.check_end(&Span::default(), &self.position).await?;
        }
        let deadline = Instant::now() + RESERVE_TIMEOUT;
        let reserved = self.feed.budget.reserve(RESERVED_BYTES, deadline).await;
        let reserved = reserved.ok_or(Error::Overloaded)?;
        let (user_id, limit) = (self.watched.user_id, self.size.0);
        // The reader announces its entries only once: fail on a server that lacks them.
        let newest = if tail.seen() > self.position.seen() { tail.seen() } else { 0 };
        let bound = (limit, PAGE_BYTES);
        let page = self.feed.database.changes_behind(&self.position, user_id, newest, bound);
        let page = page.await?;
        let share = |entry| SharedChange::new(entry, &self.feed.budget);
        let length = page.len();
        if user_id.is_none() {
            // Skip unreadable entries: their users are unknown.
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

    /// Waits for the reader's entries, or reads the log if the subscription is behind.
    async fn fill(&mut self) -> Result<(), Error> {
        let Some(receiver) = &mut self.receiver else { return self.catch_up().await };
        let found = match receiver.recv().await {
            Ok(found) => found.upgrade(),
            Err(RecvError::Lagged(_) | RecvError::Closed) => None,
        };
        let Some(found) = found else {
            // The subscription was too slow.
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
        // If this future is dropped at the `await`, the next call reads the log again.
        let receiver = self.receiver.take();
        let reached = self.reached(&unseen).await?;
        (self.receiver, self.contiguous_end) = (receiver, found.contiguous_end);
        (self.queue, self.reached) = (unseen, reached);
        Ok(())
    }

    /// Moves the position past the next entry of the queue.
    fn advance(&mut self, entry: &SharedChange) {
        self.observe(entry.id);
        self.position.note_time(entry.id, entry.time);
        // Keep gaps that later entries of the queue fill.
        self.position.expire_gaps(self.contiguous_end.id.min(entry.id));
    }

    /// Moves the position past all read entries, including other users' entries. Otherwise the
    /// position could become older than the log's retention.
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
            // One user's entries become visible in id order. Gaps of other users do not matter.
            Some(_) => self.position.observe_without_gap(id),
        }
    }

    /// The users of `entries` that the subscriber may see.
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
                if self.reached.contains(&entry.user_id) && self.watched.entries.matches(&entry) {
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
