//! Accepting connections on both doors: there is a bound to their number, and a deadline for a client's first word.

mod serve;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

pub use serve::Age;
pub(crate) use serve::{Peer, Stream, serve};

/// How many connections a listener has at once; others wait to be accepted.
const CONNECTIONS: usize = 1024;
/// How long a client may say nothing at first.
const FIRST_WORD: Duration = Duration::from_secs(30);
/// How long a client may still speak after the connection's end: a system that closes what it has not read resets the connection,
/// and a client that is just sending would lose the last answers, and what tells it which of its calls were not begun.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long accepting rests after it failed, as it does where there are no more file descriptors.
const REST: Duration = Duration::from_millis(50);

/// How many connections the system takes before they are accepted: as many as there may be, as all clients come back at once
/// when a service has been started anew. With fewer it resets some of them.
const BACKLOG: u32 = 1024;

/// Listens on an address.
///
/// # Errors
/// Those of the system, as where another process listens there.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As after a restart old connections still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections.
#[derive(Debug)]
struct Connections {
    listener: TcpListener,
    room: Arc<Semaphore>,
}

impl Connections {
    /// Accepts on a bound listener.
    fn new(listener: TcpListener) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// The next connection, as soon as there is room for it.
    ///
    /// # Errors
    /// None in practice: where there is never room again.
    async fn accept(&self) -> io::Result<(Connection, SocketAddr)> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Answers are small and must not wait for more to come.
                    let _ = stream.set_nodelay(true);
                    let silent = Some(Box::pin(sleep(FIRST_WORD)));
                    let connection = Connection { stream, silent, leaving: None, _room: room };
                    return Ok((connection, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(REST).await;
                }
            }
        }
    }
}

/// A connection; it keeps its room until it ends.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Until the client's first word.
    silent: Option<Pin<Box<Sleep>>>,
    /// From its end on, until the client has closed it, too.
    leaving: Option<Pin<Box<Sleep>>>,
    _room: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(silent) = &mut self.silent else { return read };
        if read.is_ready() {
            self.silent = None;
            return read;
        }
        ready!(silent.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, leaving, .. } = &mut *self;
        let leaving = match leaving {
            Some(leaving) => leaving,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                leaving.insert(Box::pin(sleep(LAST_WORD)))
            }
        };
        // First: there may be always more to read.
        while leaving.as_mut().poll(context).is_pending() {
            let mut unread = [0; 1024];
            let mut unread = ReadBuf::new(&mut unread);
            match Pin::new(&mut *stream).poll_read(context, &mut unread) {
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {}
                Poll::Ready(_) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_left_and_one_that_spoke_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(listener);
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = connections.accept().await.unwrap();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = connections.accept().await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'x');
        let more = tokio::time::timeout(FIRST_WORD * 2, connection.read_u8()).await;
        assert!(more.is_err(), "it still waits");
    }

    /// Four times as many as the system takes by itself before one is accepted.
    #[tokio::test]
    async fn many_clients_may_come_at_once() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let connect = tokio::time::timeout(FIRST_WORD, TcpStream::connect(address));
            async { connect.await.unwrap().unwrap() }
        };
        let clients = futures_util::future::join_all((0..512).map(|_| connect())).await;
        for _ in &clients {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.write_all(b"x").await.unwrap();
        }
        for mut client in clients {
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
    }

    #[tokio::test]
    async fn a_client_that_still_sends_at_the_end_gets_the_last_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = Connections::new(listener).accept().await.unwrap();
        connection.write_all(b"answer").await.unwrap();
        let ended = tokio::spawn(async move { connection.shutdown().await });
        for _ in 0..10 {
            client.write_all(b"more").await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        assert!(!ended.is_finished(), "the client has not closed it yet");
        drop(client);
        ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_without_end_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = Connections::new(listener).accept().await.unwrap();
        let flood = tokio::spawn(async move {
            let more = vec![0; 1 << 20];
            while client.write_all(&more).await.is_ok() {}
        });
        let ended = tokio::time::timeout(LAST_WORD * 10, connection.shutdown()).await;
        ended.expect("it ends").unwrap();
        drop(connection);
        flood.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_closes_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut connection, _) = Connections::new(listener).accept().await.unwrap();
        let begun = tokio::time::Instant::now();
        connection.shutdown().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), LAST_WORD.as_secs());
    }

    #[tokio::test]
    async fn there_is_room_again_when_a_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections { listener, room: Arc::new(Semaphore::new(1)) };
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let (first, _) = connections.accept().await.unwrap();
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, connections.accept()).await.is_err());
        drop(first);
        connections.accept().await.unwrap();
    }
}
