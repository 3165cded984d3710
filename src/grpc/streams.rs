//! Deadlines for sending responses over HTTP/2.
//!
//! While a client grants no flow control window, hyper does not poll the response body. A deadline
//! in the body, or the end of a subscription, would go unnoticed. So each HTTP/2 stream runs in a
//! task that ends at its deadline, which resets the stream and frees the response.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Minimum rate at which a client must read a large response.
pub(crate) const MIN_BYTES_PER_SECOND: usize = 256 * 1024;

thread_local! {
    /// The limit that was just set for the stream polled on this thread.
    static LIMIT: Cell<Option<Limit>> = const { Cell::new(None) };
}

/// When a stream ends at the latest.
#[derive(Clone, Debug)]
enum Limit {
    At(Instant),
    /// Ends the stream this long after the cancellation of the token.
    After(CancellationToken, Duration),
}

impl Limit {
    async fn reached(self) {
        match self {
            Self::At(deadline) => sleep_until(deadline).await,
            Self::After(ended, rest) => {
                ended.cancelled().await;
                sleep(rest).await;
            }
        }
    }
}

/// Cancelled once a stream gets no more messages. Stored as an extension of its response.
#[derive(Clone, Debug)]
pub(super) struct Ended(pub(super) CancellationToken);

/// The send timeout of a response; `least` for a small response.
pub(super) fn send_timeout(least: Duration, bytes: usize) -> Duration {
    let seconds = u32::try_from(bytes / MIN_BYTES_PER_SECOND).unwrap_or(u32::MAX);
    least.saturating_add(Duration::from_secs(1).saturating_mul(seconds))
}

/// Sets the deadline of the stream polled on this thread.
pub(super) fn end_at(deadline: Instant) {
    LIMIT.set(Some(Limit::At(deadline)));
}

/// Ends the stream polled on this thread `rest` after it gets no more messages.
pub(super) fn end_after(Ended(ended): Ended, rest: Duration) {
    LIMIT.set(Some(Limit::After(ended, rest)));
}

/// Spawns the streams of HTTP/2 connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamExecutor;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        tokio::spawn(Stream { stream: Some(stream), wait: None });
    }
}

pin_project! {
    /// A stream with its limit.
    struct Stream<F> {
        #[pin]
        stream: Option<F>,
        // Set only if the response is not sent at once.
        wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    }
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(stream) = this.stream.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        LIMIT.set(None);
        if stream.poll(context).is_ready() {
            return Poll::Ready(());
        }
        if let Some(limit) = LIMIT.take() {
            *this.wait = Some(Box::pin(limit.reached()));
        }
        let Some(wait) = this.wait else { return Poll::Pending };
        if wait.as_mut().poll(context).is_ready() {
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

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_some_time_after_nothing_is_put_into_it() {
        let (until_dropped, dropped) = oneshot::channel::<()>();
        let ended = CancellationToken::new();
        let limit = Ended(ended.clone());
        StreamExecutor.execute(async move {
            let _until_dropped = until_dropped;
            end_after(limit, LEAST);
            pending::<()>().await;
        });
        let begun = Instant::now();
        tokio::spawn(async move {
            sleep(LEAST * 100).await;
            ended.cancel();
        });
        assert!(dropped.await.is_err());
        assert_eq!(begun.elapsed(), LEAST * 101);
    }

    #[test]
    fn large_answers_have_more_time() {
        assert_eq!(send_timeout(LEAST, 1000), LEAST);
        assert_eq!(send_timeout(LEAST, 4 * 1024 * 1024), LEAST + Duration::from_secs(16));
    }
}
