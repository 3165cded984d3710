//! The deadline for the beginning of an HTTP/2 connection: the preface and the client's SETTINGS
//! frame ([RFC 9113, section 3.4]). hyper has no such deadline, and pings do not replace one.
//!
//! [RFC 9113, section 3.4]: https://www.rfc-editor.org/rfc/rfc9113#section-3.4

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep},
};

use super::{activity::Activity, reasons::Closed, write::write_to_stream};

/// The length of the preface, in bytes.
const PREFACE: usize = 24;
/// The length of a frame's header, in bytes. The first three bytes are the payload's length.
const FRAME_HEADER: usize = 9;
/// The type of a SETTINGS frame.
const SETTINGS: u8 = 4;

/// A stream of HTTP/2 whose beginning has a deadline.
pub(crate) struct PrefaceTimeout<S> {
    stream: S,
    activity: Arc<Activity>,
    /// `None` after the beginning is complete.
    awaited: Option<Awaited>,
}

struct Awaited {
    deadline: Pin<Box<Sleep>>,
    /// The number of received bytes.
    received: usize,
    header: [u8; FRAME_HEADER],
}

impl Awaited {
    /// Takes received bytes. Returns whether the beginning is complete.
    fn receive(&mut self, bytes: &[u8]) -> bool {
        for (index, byte) in (self.received..).zip(bytes) {
            let place = index.checked_sub(PREFACE);
            if let Some(place) = place.and_then(|place| self.header.get_mut(place)) {
                *place = *byte;
            }
            if index + 1 >= PREFACE + FRAME_HEADER {
                break;
            }
        }
        self.received = self.received.saturating_add(bytes.len());
        let [high, middle, low, kind, ..] = self.header;
        let payload = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.received >= PREFACE + FRAME_HEADER + payload && kind == SETTINGS
    }
}

impl<S> PrefaceTimeout<S> {
    /// Limits the time for the preface and the SETTINGS frame to `timeout`.
    pub(crate) fn new(stream: S, activity: Arc<Activity>, timeout: Duration) -> Self {
        let deadline = Box::pin(sleep(timeout));
        let awaited = Some(Awaited { deadline, received: 0, header: [0; FRAME_HEADER] });
        Self { stream, activity, awaited }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefaceTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some(awaited) = &mut this.awaited else { return read };
        if awaited.receive(&buffer.filled()[before..]) {
            this.awaited = None;
        } else if awaited.deadline.as_mut().poll(context).is_ready() {
            // Check the deadline even if data is available: a client may send one byte at a time.
            this.activity.slot.count_closed(Closed::Head);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

write_to_stream!(PrefaceTimeout);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::{server::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, timeout},
    };

    use super::{super::registry::tests::registration, *};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// A SETTINGS frame with one setting.
    const FRAME: &[u8] = &[0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 4, 0, 0, 255, 255];

    /// Serves a client that sends only `sent`. Returns the time until the connection was closed, if
    /// that was within an hour.
    async fn closed_after(sent: &[u8]) -> Option<Duration> {
        let registration = registration();
        let (mut client, server) = duplex(64);
        let stream = PrefaceTimeout::new(server, Arc::clone(&registration.0), TIMEOUT);
        let service =
            service_fn(async |_| Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new())));
        let serving = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        let begun = Instant::now();
        let speak = async {
            client.write_all(sent).await.unwrap();
            // The server's settings, and no more.
            while client.read_u8().await.is_ok() {}
        };
        let served = async { tokio::join!(serving, speak) };
        timeout(Duration::from_secs(3600), served).await.ok().map(|_| begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_complete_the_beginning_is_closed_at_the_deadline() {
        let without_settings = [BEGINNING, &[0, 0, 8, 6, 0, 0, 0, 0, 0], &[0; 8]].concat();
        let cut_settings = [BEGINNING, &FRAME[..FRAME.len() - 1]].concat();
        for sent in [b"", &BEGINNING[..3], BEGINNING, &without_settings, &cut_settings] {
            let closed = closed_after(sent).await.map(|after| after.as_secs());
            assert_eq!(closed, Some(TIMEOUT.as_secs()), "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_completes_the_beginning_has_no_further_deadline() {
        assert_eq!(closed_after(&[BEGINNING, FRAME].concat()).await, None);
        assert_eq!(
            closed_after(&[BEGINNING, &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]].concat()).await,
            None
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_every_now_and_then_does_not_extend_the_deadline() {
        let registration = super::super::registry::tests::registration();
        let (mut client, server) = duplex(64);
        let mut stream = PrefaceTimeout::new(server, Arc::clone(&registration.0), TIMEOUT);
        for byte in &BEGINNING[..10] {
            client.write_u8(*byte).await.unwrap();
            stream.read_u8().await.unwrap();
            tokio::time::advance(TIMEOUT / 10).await;
        }
        client.write_u8(BEGINNING[10]).await.unwrap();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
