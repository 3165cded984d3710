//! The memory of all subscriptions, in bytes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Bytes of entries that all subscriptions hold together.
pub(crate) const ENTRIES_LIMIT: usize = 24 << 20;
/// Bytes of responses that are being sent to all clients together.
pub(crate) const RESPONSES_LIMIT: usize = 16 << 20;
/// Bytes of responses that are being sent to one caller.
pub(crate) const CALLER_RESPONSES_LIMIT: usize = RESPONSES_LIMIT / 4;
/// The largest response that is sent even at a limit, in bytes.
const RESPONSE_RESERVE: usize = 8 << 10;

/// The memory of all subscriptions: shared entries, and responses that are being sent. Charging an
/// entry never fails, so call [`WatchBudget::reserve`] before reading a page.
#[derive(Debug, Default)]
pub struct WatchBudget {
    entries: AtomicUsize,
    responses: AtomicUsize,
    /// Bytes of responses that are being sent, by caller.
    callers: Mutex<HashMap<String, Weak<AtomicUsize>>>,
    /// Number of tasks that wait for room.
    waiting: AtomicUsize,
    released: Notify,
    exhausted: Notify,
}

impl WatchBudget {
    /// The maximum bytes in use, except for pages that are being read.
    pub const LIMIT: usize = ENTRIES_LIMIT + RESPONSES_LIMIT;

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.entries_used() + self.responses_used()
    }

    /// Bytes that entries use.
    pub fn entries_used(&self) -> usize {
        self.entries.load(Ordering::SeqCst)
    }

    /// Bytes that responses use.
    pub fn responses_used(&self) -> usize {
        self.responses.load(Ordering::SeqCst)
    }

    /// Charges the memory of an entry.
    pub fn charge_entry(self: &Arc<Self>, bytes: usize) -> Charge {
        let used = self.entries.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if used > ENTRIES_LIMIT {
            self.exhausted.notify_waiters();
        }
        Charge { budget: Arc::clone(self), kind: Kind::Entry, bytes }
    }

    /// A caller's share of the responses. All subscriptions of the caller use the same share.
    pub fn share(self: &Arc<Self>, caller: &str) -> ResponseShare {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|_, used| used.strong_count() > 0);
        let used = callers.get(caller).and_then(Weak::upgrade).unwrap_or_default();
        callers.insert(caller.to_owned(), Arc::downgrade(&used));
        ResponseShare { budget: Arc::clone(self), used }
    }

    /// Reserves room for `bytes` of entries before reading them. Returns `None` if there is no room
    /// by `deadline`.
    pub async fn reserve(self: &Arc<Self>, bytes: usize, deadline: Instant) -> Option<Charge> {
        if let Some(charge) = self.try_reserve(bytes) {
            return Some(charge);
        }
        let _waiting = Waiting::new(self);
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if let Some(charge) = self.try_reserve(bytes) {
                return Some(charge);
            }
            timeout_at(deadline, released).await.ok()?;
        }
    }

    /// Waits until entries have no room.
    pub async fn exhausted(&self) {
        loop {
            let exhausted = self.exhausted.notified();
            tokio::pin!(exhausted);
            exhausted.as_mut().enable();
            if self.is_exhausted() {
                return;
            }
            exhausted.await;
        }
    }

    /// Whether entries have no room.
    pub fn is_exhausted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
            || self.entries.load(Ordering::SeqCst) > ENTRIES_LIMIT
    }

    fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= ENTRIES_LIMIT);
        let reserved = self.entries.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
        reserved.ok()?;
        Some(Charge { budget: Arc::clone(self), kind: Kind::Entry, bytes })
    }
}

/// A task that waits for room.
struct Waiting<'a>(&'a WatchBudget);

impl<'a> Waiting<'a> {
    fn new(budget: &'a WatchBudget) -> Self {
        budget.waiting.fetch_add(1, Ordering::SeqCst);
        budget.exhausted.notify_waiters();
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A caller's share of the responses.
#[derive(Debug)]
pub struct ResponseShare {
    budget: Arc<WatchBudget>,
    /// Bytes of this caller's responses that are being sent.
    used: Arc<AtomicUsize>,
}

impl ResponseShare {
    /// Charges a response before sending it. `None` if the response is over `RESPONSE_RESERVE` and
    /// the caller's or the total limit is reached.
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let of_caller = self.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let of_all = self.budget.responses.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let kind = Kind::Response(Arc::clone(&self.used));
        let charge = Charge { budget: Arc::clone(&self.budget), kind, bytes };
        let fits = of_caller <= CALLER_RESPONSES_LIMIT && of_all <= RESPONSES_LIMIT;
        (bytes <= RESPONSE_RESERVE || fits).then_some(charge)
    }
}

#[derive(Debug)]
enum Kind {
    Entry,
    /// With the bytes that the caller uses.
    Response(Arc<AtomicUsize>),
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<WatchBudget>,
    kind: Kind,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Entry => {
                self.budget.entries.fetch_sub(self.bytes, Ordering::SeqCst);
                self.budget.released.notify_waiters();
            }
            Kind::Response(of_caller) => {
                of_caller.fetch_sub(self.bytes, Ordering::SeqCst);
                self.budget.responses.fetch_sub(self.bytes, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_comes_back_when_a_charge_is_dropped() {
        let budget = Arc::new(WatchBudget::default());
        let soon = || Instant::now() + Duration::from_secs(1);
        let first = budget.charge_entry(ENTRIES_LIMIT - 10);
        assert!(budget.reserve(10, soon()).await.is_some());
        assert!(budget.reserve(11, soon()).await.is_none());
        let (reserved, ()) = tokio::join!(budget.reserve(11, soon()), async {
            // A waiting task makes the budget exhausted.
            budget.exhausted().await;
            drop(first);
        });
        assert_eq!(budget.used(), 11);
        drop(reserved);
        assert_eq!(budget.used(), 0);
        let _over = budget.charge_entry(ENTRIES_LIMIT + 1);
        budget.exhausted().await;
    }

    #[test]
    fn a_caller_gets_a_quarter_of_the_responses() {
        let budget = Arc::new(WatchBudget::default());
        let first = budget.share("first");
        let all = first.try_charge(CALLER_RESPONSES_LIMIT).unwrap();
        // Another subscription of the same caller.
        let same = budget.share("first");
        assert!(same.try_charge(RESPONSE_RESERVE + 1).is_none());
        let small = same.try_charge(RESPONSE_RESERVE).unwrap();
        let second = budget.share("second");
        let other = second.try_charge(CALLER_RESPONSES_LIMIT).unwrap();
        drop((all, small, other));
        assert_eq!(budget.used(), 0);
        assert!(same.try_charge(CALLER_RESPONSES_LIMIT).is_some());
        drop((first, same, second));
        let _third = budget.share("third");
        assert_eq!(budget.callers.lock().unwrap().len(), 1);
    }

    #[test]
    fn small_responses_are_sent_even_if_the_limit_is_reached() {
        let budget = Arc::new(WatchBudget::default());
        let shares = ["first", "second", "third", "fourth", "fifth"].map(|name| budget.share(name));
        let charge = |share: &ResponseShare| share.try_charge(CALLER_RESPONSES_LIMIT);
        let all: Vec<_> = shares.iter().filter_map(charge).collect();
        assert_eq!((all.len(), budget.used()), (4, RESPONSES_LIMIT));
        assert!(shares[4].try_charge(RESPONSE_RESERVE + 1).is_none());
        let small = shares[4].try_charge(RESPONSE_RESERVE).unwrap();
        assert_eq!(budget.used(), RESPONSES_LIMIT + RESPONSE_RESERVE);
        drop((all, small));
        assert_eq!(budget.used(), 0);
        assert!(charge(&shares[4]).is_some());
    }
}
