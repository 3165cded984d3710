//! The socket of a listener.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::limits::ConnectionLimits;
use crate::{networks::Networks, tls::ServerTls};

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
    /// The proxies between the listener and its clients.
    pub proxies: Proxies,
}

/// The proxies between a listener and its clients.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// The addresses of the proxies. They may have more connections than other addresses.
    pub trusted: Networks,
    /// Whether connections begin with a header of the PROXY protocol. If `trusted` is not empty,
    /// other addresses may not connect.
    pub write_header: bool,
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::server::limits::FIRST_BYTE_TIMEOUT;

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
