//! Responses of a subscription that wait for the client.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tonic::Status;

use crate::domain::watch::SharedChange;

/// Maximum number of waiting responses.
pub(crate) const MAX_RESPONSES: usize = 16;
/// The outbox is full once the waiting responses have this many bytes.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// A response that is not converted yet.
pub(super) struct Waiting {
    /// The change; `None` if the response carries only the resume token.
    pub(super) change: Option<Arc<SharedChange>>,
    pub(super) resume_token: String,
}

impl Waiting {
    fn bytes(&self) -> usize {
        let change = self.change.as_ref().map_or(0, |change| change.memory());
        change + self.resume_token.len()
    }
}

/// Creates an outbox.
pub(super) fn outbox() -> (Sender, Receiver) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            waiting: VecDeque::new(),
            bytes: 0,
            taken_at: Instant::now(),
            end: None,
            receiver: Client::Listening,
        }),
        taken: Notify::new(),
        added: Notify::new(),
        closed: Notify::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

struct Shared {
    state: Mutex<State>,
    taken: Notify,
    added: Notify,
    closed: Notify,
}

struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// When the outbox was last empty, or a response was taken.
    taken_at: Instant,
    /// The final status once the stream has ended; the inner `None` means OK.
    end: Option<Option<Status>>,
    receiver: Client,
}

/// The state of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// The client may take further responses.
    Listening,
    /// The receiver was dropped.
    Gone,
    /// A response exceeded the budget.
    Refused,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds responses to an outbox.
pub(super) struct Sender(Arc<Shared>);

impl Sender {
    /// Waits until there is room for a response.
    pub(super) async fn room(&self) {
        loop {
            let taken = self.0.taken.notified();
            {
                let state = self.0.state();
                if state.waiting.len() < MAX_RESPONSES && state.bytes < MAX_BYTES {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Adds a response, after [`Sender::room`].
    pub(super) fn add(&self, waiting: Waiting) {
        let mut state = self.0.state();
        if state.waiting.is_empty() {
            state.taken_at = Instant::now();
        }
        state.bytes += waiting.bytes();
        state.waiting.push_back(waiting);
        drop(state);
        self.0.added.notify_one();
    }

    /// Waits until the client takes no more responses, and returns why.
    pub(super) async fn closed(&self) -> Client {
        loop {
            let closed = self.0.closed.notified();
            let receiver = self.0.state().receiver;
            if receiver != Client::Listening {
                return receiver;
            }
            closed.await;
        }
    }

    /// Waits until the client has taken no waiting response for `timeout`.
    pub(super) async fn stalled(&self, timeout: Duration) {
        loop {
            let (is_empty, taken_at) = {
                let state = self.0.state();
                (state.waiting.is_empty(), state.taken_at)
            };
            let since = if is_empty { Instant::now() } else { taken_at };
            if since.elapsed() >= timeout {
                return;
            }
            tokio::time::sleep_until(since + timeout).await;
        }
    }

    /// Ends the stream, with OK if `status` is `None`.
    pub(super) fn end(&self, status: Option<Status>, unsent: Unsent) {
        let mut state = self.0.state();
        if unsent == Unsent::Drop {
            (state.waiting, state.bytes) = (VecDeque::new(), 0);
        }
        state.end.get_or_insert(status);
        drop(state);
        self.0.added.notify_one();
    }
}

/// What happens to the waiting responses of a stream that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// Send them before the status.
    Send,
    /// Drop them: the client resumes after the last response that it took.
    Drop,
}

impl Drop for Sender {
    /// Ends the stream even if its task panicked.
    fn drop(&mut self) {
        self.end(None, Unsent::Send);
    }
}

/// Takes responses from an outbox.
pub(super) struct Receiver(Arc<Shared>);

impl Receiver {
    /// Waits for the next response. At the end returns the error status, if any, then `None`.
    pub(super) async fn take(&self) -> Option<Result<Waiting, Status>> {
        loop {
            let added = self.0.added.notified();
            {
                let mut state = self.0.state();
                if let Some(next) = state.waiting.pop_front() {
                    state.bytes -= next.bytes();
                    state.taken_at = Instant::now();
                    drop(state);
                    self.0.taken.notify_waiters();
                    return Some(Ok(next));
                }
                if let Some(end) = &mut state.end {
                    return end.take().map(Err);
                }
            }
            added.await;
        }
    }

    /// Ends the stream because the taken response exceeds the budget.
    pub(super) fn refuse(&self, status: Status) {
        let mut state = self.0.state();
        (state.waiting, state.bytes) = (VecDeque::new(), 0);
        state.end = Some(Some(status));
        state.receiver = Client::Refused;
        drop(state);
        self.0.closed.notify_waiters();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.waiting, state.bytes) = (VecDeque::new(), 0);
        if state.receiver == Client::Listening {
            state.receiver = Client::Gone;
        }
        drop(state);
        self.0.closed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn waiting(token: &str) -> Waiting {
        Waiting { change: None, resume_token: token.to_owned() }
    }

    async fn token(receiver: &Receiver) -> String {
        receiver.take().await.unwrap().unwrap().resume_token
    }

    #[tokio::test]
    async fn an_outbox_is_bounded_by_number_and_by_bytes() {
        let (sender, receiver) = outbox();
        for number in 0..MAX_RESPONSES {
            sender.room().await;
            sender.add(waiting(&number.to_string()));
        }
        assert!(sender.room().now_or_never().is_none());
        let (taken, ()) = tokio::join!(token(&receiver), sender.room());
        assert_eq!(taken, "0");
        while receiver.take().now_or_never().is_some() {}
        sender.add(waiting(&"x".repeat(MAX_BYTES)));
        assert!(sender.room().now_or_never().is_none());
        token(&receiver).await;
        assert!(sender.room().now_or_never().is_some());
    }

    #[tokio::test]
    async fn the_status_comes_behind_unsent_responses_unless_they_are_dropped() {
        for unsent in [Unsent::Send, Unsent::Drop] {
            let (sender, receiver) = outbox();
            sender.add(waiting("first"));
            sender.end(Some(Status::unavailable("stop")), unsent);
            drop(sender);
            if unsent == Unsent::Send {
                assert_eq!(token(&receiver).await, "first");
            }
            let status = receiver.take().await.unwrap().err().unwrap();
            assert_eq!(status.message(), "stop");
            assert!(receiver.take().await.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_stalled_while_it_takes_nothing_that_waits() {
        const TIMEOUT: Duration = Duration::from_secs(1);
        let (sender, receiver) = outbox();
        let is_stalled =
            async |wait| tokio::time::timeout(wait, sender.stalled(TIMEOUT)).await.is_ok();
        assert!(!is_stalled(TIMEOUT * 5).await);
        sender.add(waiting("first"));
        sender.add(waiting("second"));
        assert!(!is_stalled(TIMEOUT / 2).await);
        token(&receiver).await;
        assert!(!is_stalled(TIMEOUT * 3 / 4).await);
        assert!(is_stalled(TIMEOUT / 2).await);
    }

    #[tokio::test]
    async fn a_sender_learns_what_became_of_the_receiver() {
        for expected in [Client::Gone, Client::Refused] {
            let (sender, receiver) = outbox();
            assert!(sender.closed().now_or_never().is_none());
            if expected == Client::Refused {
                receiver.refuse(Status::resource_exhausted("full"));
                assert!(receiver.take().await.unwrap().is_err());
            }
            drop(receiver);
            assert_eq!(sender.closed().await, expected);
        }
    }
}
