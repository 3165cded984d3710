//! The deadline for the head of an HTTP/1 request, from the head's first byte. hyper's timeout
//! includes the time between two requests.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep},
};

use super::{activity::Activity, reasons::Closed, write::write_to_stream};

/// A stream of HTTP/1 whose request heads have a deadline.
pub(crate) struct HeadTimeout<S> {
    stream: S,
    activity: Arc<Activity>,
    timeout: Duration,
    /// Runs from the first byte of a head to the beginning of its call.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The number of calls before that head.
    calls: u64,
}

impl<S> HeadTimeout<S> {
    /// Limits the time for each head to `timeout`.
    pub(crate) fn new(stream: S, activity: Arc<Activity>, timeout: Duration) -> Self {
        Self { stream, activity, timeout, deadline: None, calls: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let calls = this.activity.total_calls();
        if calls != this.calls {
            (this.calls, this.deadline) = (calls, None);
        }
        if this.activity.slot.has_calls() {
            return read;
        }
        if let Some(deadline) = &mut this.deadline {
            // Check the deadline even if data is available: a client may send one byte at a time.
            if deadline.as_mut().poll(context).is_ready() {
                this.activity.slot.count_closed(Closed::Head);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        } else if read.is_ready() {
            this.deadline = Some(Box::pin(sleep(this.timeout)));
        }
        ready!(read)?;
        Poll::Ready(Ok(()))
    }
}

write_to_stream!(HeadTimeout);

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::timeout,
    };

    use super::{super::registry::tests::registration, *};

    const HEAD: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_head_has_a_deadline_and_the_time_between_requests_has_not() {
        let registration = registration();
        let activity = Arc::clone(&registration.0);
        let (mut client, server) = duplex(64);
        let mut stream = HeadTimeout::new(server, Arc::clone(&activity), HEAD);

        assert!(timeout(HEAD * 3, stream.read_u8()).await.is_err(), "idle");
        client.write_all(b"a").await.unwrap();
        stream.read_u8().await.unwrap();
        // The call begins and ends between two reads.
        drop(activity.call(http::Request::new(Empty::<bytes::Bytes>::new()), false));
        assert!(timeout(HEAD * 3, stream.read_u8()).await.is_err(), "idle again");
        client.write_all(b"a").await.unwrap();
        stream.read_u8().await.unwrap();
        let (_request, call) =
            activity.call(http::Request::new(Empty::<bytes::Bytes>::new()), false);
        assert!(timeout(HEAD * 3, stream.read_u8()).await.is_err(), "a call is under way");
        drop(call);

        // A byte every now and then does not extend the deadline.
        for _ in 0..4 {
            client.write_all(b"a").await.unwrap();
            stream.read_u8().await.unwrap();
            tokio::time::advance(HEAD / 4).await;
        }
        client.write_all(b"a").await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
