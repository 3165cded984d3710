//! What the reader found last, for all subscriptions.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;

use crate::domain::watch::{Position, SharedChange};

/// How many portions are kept at most.
const MAX_PORTIONS: usize = 64;
/// How many bytes of entries are kept at most, except for the last portion.
const MAX_BYTES: usize = 8 << 20;

/// The id up to which nothing is missing any more, and the time of its entry, if it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContiguousEnd {
    pub(super) id: i64,
    pub(super) time: Option<DateTime<Utc>>,
}

impl ContiguousEnd {
    /// That of a position.
    pub(super) fn of(position: &Position) -> Self {
        let id = position.contiguous_up_to();
        Self { id, time: position.time().filter(|_| id == position.seen()) }
    }
}

/// What the reader has found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entries: Vec<Arc<SharedChange>>,
    pub(super) contiguous_end: ContiguousEnd,
    /// The log is not the one that the reader has seen.
    pub(super) is_cut: bool,
}

/// A portion that is gone once [`Recent`] has dropped it: a subscription that is slower reads the log.
pub(super) type Announced = Weak<Found>;

/// The portions found last.
#[derive(Debug)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
    sender: broadcast::Sender<Announced>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With their bytes.
    portions: VecDeque<(Arc<Found>, usize)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), sender: broadcast::Sender::new(MAX_PORTIONS) }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Announced> {
        self.sender.subscribe()
    }

    pub(super) fn has_subscriptions(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Keeps a portion, and announces it.
    pub(super) fn push(&self, found: Found) {
        let bytes = found.entries.iter().map(|entry| entry.memory()).sum::<usize>();
        let found = Arc::new(found);
        let announced = Arc::downgrade(&found);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.portions.len() >= MAX_PORTIONS || kept.bytes + bytes > MAX_BYTES {
            let Some((_, bytes)) = kept.portions.pop_front() else { break };
            kept.bytes -= bytes;
        }
        kept.portions.push_back((found, bytes));
        kept.bytes += bytes;
        // It fails if there is no subscription any more.
        let _ = self.sender.send(announced);
    }

    /// Drops all portions.
    pub(super) fn clear(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }
}
