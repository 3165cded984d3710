//! The listeners: accepting connections, their limits per address and in total, their timeouts,
//! TLS, and their age.

mod activity;
mod connection;
pub mod descriptors;
pub(crate) mod head;
mod http1;
mod http2;
mod reasons;
mod registry;
mod serve;
mod throttle;
mod write;

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpSocket};

pub(crate) use activity::Activity;
use connection::Connection;
pub(crate) use http1::HeadTimeout;
pub(crate) use http2::PrefaceTimeout;
use reasons::{Closed, Reason};
use registry::{Registry, State};
pub(crate) use serve::{Peer, Stream, serve};

use crate::tls::ServerTls;

/// The timeout for the first byte of a connection.
pub(crate) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for a TLS handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for the head of an HTTP/1 request, from its first byte, and for the preface and the
/// SETTINGS frame of an HTTP/2 client.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for an HTTP/1 connection without a request.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout for a write without progress: the client does not read.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Linger timeout. Closing a socket with unread input sends RST, and the client loses the last
/// responses.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of bytes that are read and dropped until then: more than the largest allowed body.
/// Reading without a limit lets few clients use all processors.
pub(crate) const MAX_LINGER_BYTES: usize = 2 * 1024 * 1024;

/// The largest number of connections that wait for `accept`. After a restart all clients connect at
/// once; the system resets connections beyond this number.
const BACKLOG: u32 = 1024;

/// Listens on an address.
///
/// # Errors
/// The system's errors, for example when another process listens there.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // After a restart, connections of the previous process may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A bound socket with its TLS and limits.
#[derive(Debug)]
pub struct Listener {
    /// The name in metrics and logs: `grpc`, `http` or `admin`.
    pub name: &'static str,
    /// The socket.
    pub socket: TcpListener,
    /// TLS; `None` is plain text.
    pub tls: Option<ServerTls>,
    /// The limits of its connections.
    pub limits: ConnectionLimits,
}

/// The limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The largest number of connections.
    pub max: usize,
    /// The largest number of connections of one client address; 0 is no limit. An IPv6 client is
    /// its /64 network.
    pub max_per_address: usize,
    /// The lifetime of connections.
    pub age: Age,
    /// The timeouts for clients.
    pub timeouts: Timeouts,
}

/// The lifetime of connections. A limit spreads clients over new replicas, and makes clients
/// present their certificates again.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// The age at which a connection takes no new calls, ±10 % at random so that connections do
    /// not end all at once. Zero means never.
    pub longest: Duration,
    /// The grace period for the calls of an old connection.
    pub grace: Duration,
    /// The silence before an HTTP/2 client gets a ping. The client has a third of it to answer.
    pub keepalive: Duration,
}

/// The timeouts for clients. A timeout closes the connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the first byte.
    pub first_byte: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of an HTTP/1 request, from its first byte; and for the preface and the SETTINGS
    /// frame of an HTTP/2 client.
    pub head: Duration,
    /// Between two requests of an HTTP/1 connection.
    pub idle: Duration,
    /// For the client to read when a write makes no progress.
    pub write: Duration,
    /// For the client to close its side after the service has closed.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: FIRST_BYTE_TIMEOUT,
            handshake: HANDSHAKE_TIMEOUT,
            head: HEAD_TIMEOUT,
            idle: IDLE_TIMEOUT,
            write: WRITE_TIMEOUT,
            linger: LINGER_TIMEOUT,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    /// Four times the default backlog of the standard library.
    #[tokio::test]
    async fn many_clients_can_connect_before_the_first_is_accepted() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let connect = tokio::time::timeout(FIRST_BYTE_TIMEOUT, TcpStream::connect(address));
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
}
