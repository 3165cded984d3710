//! A connection's slot in the registry: the number of its calls, and the request to close it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use super::reasons::Closed;
use crate::telemetry::instruments::instruments;

/// One call, in the upper half of `Slot::calls`.
pub(super) const CALL: u64 = 1 << 32;
/// One call with an incomplete body, in the lower half.
pub(super) const INCOMPLETE: u64 = 1;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No call. A handshake and an incomplete request head count as idle.
    Idle,
    /// Calls, all with incomplete request bodies.
    Receiving,
    /// A call with a complete request.
    Active,
}

/// A connection's slot in the registry.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    /// The listener's name.
    listener: &'static str,
    /// The number of calls (upper half), and of calls with an incomplete body (lower half).
    calls: AtomicU64,
    closed: CancellationToken,
    at_once: AtomicBool,
    is_counted: AtomicBool,
}

impl Slot {
    /// The slot of a new connection.
    pub(super) fn new(id: u64, listener: &'static str) -> Self {
        Self {
            id,
            listener,
            calls: AtomicU64::new(0),
            closed: CancellationToken::new(),
            at_once: AtomicBool::new(false),
            is_counted: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> State {
        state_of(self.calls.load(Ordering::Acquire))
    }

    /// Whether a call is under way.
    pub(super) fn has_calls(&self) -> bool {
        self.calls.load(Ordering::Acquire) >= CALL
    }

    /// Changes the number of calls. Returns whether the state has changed.
    pub(super) fn change(&self, change: impl Fn(u64) -> u64) -> bool {
        let before = self
            .calls
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |calls| Some(change(calls)));
        let before = before.unwrap_or_default();
        state_of(before) != state_of(change(before))
    }

    /// Closes the connection to make room, at once or after the linger timeout.
    pub(super) fn close(&self, at_once: bool) {
        self.at_once.store(at_once, Ordering::Release);
        self.closed.cancel();
    }

    /// Counts the connection as closed by the service. Only the first reason counts.
    pub(super) fn count_closed(&self, reason: Closed) {
        if !self.is_counted.swap(true, Ordering::Relaxed)
            && let Some(instruments) = instruments()
        {
            instruments.listeners.closed(self.listener, reason.as_str());
        }
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the connection must close to make room. Returns whether it must close at once.
    pub(super) async fn closed(&self) -> bool {
        self.closed.cancelled().await;
        self.at_once.load(Ordering::Acquire)
    }
}

fn state_of(calls: u64) -> State {
    match (calls >> 32, calls & u64::from(u32::MAX)) {
        (0, _) => State::Idle,
        (calls, incomplete) if calls <= incomplete => State::Receiving,
        _ => State::Active,
    }
}
