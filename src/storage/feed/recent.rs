//! The reader's newest entries, shared by all subscriptions.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;

use crate::domain::watch::{Position, SharedChange};

/// Maximum number of kept portions.
const MAX_PORTIONS: usize = 64;
/// Maximum bytes of kept entries. The newest portion is kept even if larger.
const MAX_BYTES: usize = 8 << 20;

/// The id up to which the log has no gap, and the time of its entry, if known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ContiguousEnd {
    pub(super) id: i64,
    pub(super) time: Option<DateTime<Utc>>,
}

impl ContiguousEnd {
    /// The contiguous end of a position.
    pub(super) fn of(position: &Position) -> Self {
        let id = position.contiguous_up_to();
        Self { id, time: position.time().filter(|_| id == position.seen()) }
    }
}

/// A portion of entries that the reader found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entries: Vec<Arc<SharedChange>>,
    pub(super) contiguous_end: ContiguousEnd,
    /// The log was replaced, or has lost entries.
    pub(super) is_cut: bool,
}

/// A weak reference: once [`Recent`] drops the portion, slower subscriptions read the log.
pub(super) type Announced = Weak<Found>;

/// The newest portions.
#[derive(Debug)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
    sender: broadcast::Sender<Announced>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Portions and their sizes in bytes.
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

    /// Keeps and announces a portion.
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
        // Fails only without subscriptions.
        let _ = self.sender.send(announced);
    }

    /// Drops all portions.
    pub(super) fn clear(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }
}
