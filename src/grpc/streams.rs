//! Deadlines for sending answers over HTTP/2.
//!
//! While a client grants no flow control window, hyper does not poll the body of an answer: a
//! deadline within the body would never be seen. So each HTTP/2 stream runs in a task that ends at
//! its deadline. Ending it resets the stream and frees the answer.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// How many bytes of a large answer a client must at least read in a second.
pub(crate) const MIN_BYTES_PER_SECOND: usize = 256 * 1024;

thread_local! {
    /// The deadline that the stream which is polled on this thread has just got.
    static SEND_DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long it may take to send an answer; a small one has `least`.
pub(super) fn send_timeout(least: Duration, bytes: usize) -> Duration {
    let seconds = u32::try_from(bytes / MIN_BYTES_PER_SECOND).unwrap_or(u32::MAX);
    least.saturating_add(Duration::from_secs(1).saturating_mul(seconds))
}

/// Ends the stream that is polled on this thread at a deadline.
pub(super) fn end_at(deadline: Instant) {
    SEND_DEADLINE.set(Some(deadline));
}

/// Runs the streams of HTTP/2 connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamExecutor;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        tokio::spawn(Stream { stream: Some(stream), deadline: None, sleep: None });
    }
}

pin_project! {
    /// A stream, until its deadline.
    struct Stream<F> {
        #[pin]
        stream: Option<F>,
        deadline: Option<Instant>,
        // Only there while the answer is not sent at once.
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(stream) = this.stream.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        SEND_DEADLINE.set(None);
        if stream.poll(context).is_ready() {
            return Poll::Ready(());
        }
        if let Some(deadline) = SEND_DEADLINE.take() {
            *this.deadline = Some(deadline);
        }
        let Some(deadline) = *this.deadline else { return Poll::Pending };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.as_mut().poll(context).is_ready() {
            this.stream.set(None);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    const LEAST: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_its_deadline_and_others_go_on() {
        let (until_dropped, dropped) = oneshot::channel::<()>();
        StreamExecutor.execute(async move {
            let _until_dropped = until_dropped;
            tokio::task::yield_now().await;
            end_at(Instant::now() + LEAST);
            pending::<()>().await;
        });
        let (until_end, mut end) = oneshot::channel::<()>();
        StreamExecutor.execute(async move {
            let _until_end = until_end;
            pending::<()>().await;
        });
        let begun = Instant::now();
        assert!(dropped.await.is_err());
        assert_eq!(begun.elapsed(), LEAST);
        tokio::time::sleep(LEAST * 100).await;
        assert!(end.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn large_answers_have_more_time() {
        assert_eq!(send_timeout(LEAST, 1000), LEAST);
        assert_eq!(send_timeout(LEAST, 4 * 1024 * 1024), LEAST + Duration::from_secs(16));
    }
}
