//! A client's socket with the timeouts for every protocol.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{
    activity::Registration,
    limits::{MAX_LINGER_BYTES, Timeouts},
    reasons::Closed,
};

/// A client's socket. Dropping the socket frees its place in the registry.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    timeouts: Timeouts,
    /// Runs until the first byte.
    first_byte: Option<Pin<Box<Sleep>>>,
    /// Runs while a write waits for the client to read.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set after the service has closed its side.
    linger: Option<Linger>,
    registration: Registration,
}

/// The rest of a connection that the service has closed.
#[derive(Debug)]
struct Linger {
    timeout: Pin<Box<Sleep>>,
    /// Bytes that may still be read.
    bytes: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, registration: Registration, timeouts: Timeouts) -> Self {
        // Responses are small and must not wait for more data.
        let _ = stream.set_nodelay(true);
        let first_byte = Some(Box::pin(sleep(timeouts.first_byte)));
        let (stalled, linger) = (None, None);
        Self { stream, timeouts, first_byte, stalled, linger, registration }
    }

    /// Starts the timeout of the first byte again, after a header of the PROXY protocol.
    pub(super) fn await_first_byte(&mut self) {
        self.first_byte = Some(Box::pin(sleep(self.timeouts.first_byte)));
    }

    /// Returns the result of a write. Fails if writes make no progress for the write timeout.
    fn progress<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.timeouts.write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        self.timed_out(Closed::Write)
    }

    fn timed_out<T>(&self, reason: Closed) -> Poll<io::Result<T>> {
        self.registration.0.slot.count_closed(reason);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(first_byte) = &mut self.first_byte else { return read };
        if read.is_ready() {
            self.first_byte = None;
            return read;
        }
        ready!(first_byte.as_mut().poll(context));
        self.timed_out(Closed::FirstByte)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.progress(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.progress(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, linger, timeouts, .. } = &mut *self;
        let linger = match linger {
            Some(linger) => linger,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                let timeout = Box::pin(sleep(timeouts.linger));
                linger.insert(Linger { timeout, bytes: MAX_LINGER_BYTES })
            }
        };
        // Poll the timer first: a client may never stop sending.
        while linger.timeout.as_mut().poll(context).is_pending() {
            if linger.bytes == 0 {
                return Poll::Pending;
            }
            let mut unread = [0; 1024];
            let mut unread = ReadBuf::new(&mut unread);
            match Pin::new(&mut *stream).poll_read(context, &mut unread) {
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {
                    linger.bytes = linger.bytes.saturating_sub(unread.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::{Instant, timeout},
    };

    use super::{super::registry::tests::registration, *};

    /// A client and its connection.
    async fn pair() -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (client, Connection::new(stream, registration(), Timeouts::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_a_deadline_for_its_first_byte_only() {
        let (_client, mut connection) = pair().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, mut connection) = pair().await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'x');
        let first_byte = Timeouts::default().first_byte;
        let second = timeout(first_byte * 2, connection.read_u8()).await;
        assert!(second.is_err(), "it still waits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_closed_at_the_write_timeout() {
        let (client, mut connection) = pair().await;
        // More than the buffers of both sockets.
        let response = vec![0; 1 << 26];
        let begun = Instant::now();
        let error = connection.write_all(&response).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), Timeouts::default().write.as_secs());
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_still_sends_gets_the_last_response() {
        let (mut client, mut connection) = pair().await;
        connection.write_all(b"answer").await.unwrap();
        let closed = tokio::spawn(async move { connection.shutdown().await });
        // The response's end comes after the service has closed its side.
        let mut response = String::new();
        client.write_all(b"more").await.unwrap();
        client.read_to_string(&mut response).await.unwrap();
        assert_eq!(response, "answer");
        client.write_all(b"more").await.unwrap();
        drop(client);
        closed.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_without_end_is_closed() {
        let (mut client, mut connection) = pair().await;
        let flood = tokio::spawn(async move {
            let (more, mut sent) = ([0; 64 * 1024], 0);
            while let Ok(length) = client.write(&more).await {
                sent += length;
            }
            sent
        });
        let closed = timeout(Timeouts::default().linger * 10, connection.shutdown()).await;
        closed.expect("it ends").unwrap();
        drop(connection);
        // The buffers of both sockets also take bytes.
        let sent = flood.await.unwrap();
        assert!(sent < MAX_LINGER_BYTES + (1 << 24), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_closes_is_closed_after_the_linger_timeout() {
        let (_client, mut connection) = pair().await;
        let begun = Instant::now();
        connection.shutdown().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), Timeouts::default().linger.as_secs());
    }
}
