//! The loop of both doors: each connection has a task of its own, where TLS is agreed on first, and an age at which it ends.

use std::{
    fmt::Display,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};

use super::{Connection, Connections};
use crate::tls::{self, ServerTls};

/// How long it may take to agree on TLS.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// A connection's bytes, in the clear.
pub(crate) type Stream = TokioIo<Either<Connection, Box<TlsStream<Connection>>>>;

/// Who is at the other end of a connection: an extension of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The address.
    pub(crate) address: SocketAddr,
    /// The names in its certificate, which was verified; none without one.
    pub(crate) names: Arc<[String]>,
}

/// How long connections live, so that clients spread anew over the replicas, and show their certificates anew.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// When a connection takes no new calls any more, up to a tenth sooner or later: not all at once. Zero is never.
    pub longest: Duration,
    /// How long calls under way may then go on.
    pub grace: Duration,
    /// After how much silence one that speaks gRPC is asked whether it lives; it has a third of that to answer.
    pub keepalive: Duration,
}

impl Age {
    /// For ever.
    pub(crate) const UNBOUNDED: Self =
        Self { longest: Duration::ZERO, grace: Duration::ZERO, keepalive: Duration::MAX };

    /// Waits until a connection is old.
    async fn reached(self) {
        if self.longest.is_zero() {
            return std::future::pending().await;
        }
        let random = RandomState::new().hash_one(0_u8) % 1024;
        let tenths = u32::try_from(random).unwrap_or_default();
        sleep(self.longest * 9 / 10 + self.longest * tenths / 5 / 1024).await;
    }
}

/// Accepts connections and has `protocol` speak on each, until `stop`; then what is under way on them is finished.
pub(crate) async fn serve<C>(
    listener: TcpListener,
    tls: Option<ServerTls>,
    age: Age,
    stop: CancellationToken,
    protocol: impl Fn(Stream, Peer) -> C + Clone + Send + 'static,
) where
    C: GracefulConnection<Error: Display + Send> + Send + 'static,
{
    let connections = Connections::new(listener);
    let tasks = TaskTracker::new();
    loop {
        let (connection, address) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = connections.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => break,
            },
        };
        let tls = tls.as_ref().map(ServerTls::current);
        let (protocol, stop) = (protocol.clone(), stop.clone());
        tasks.spawn(async move {
            let secured = tokio::select! {
                () = stop.cancelled() => return,
                secured = secure(connection, address, tls) => secured,
            };
            match secured {
                Ok((stream, peer)) => run(protocol(stream, peer), age, stop).await,
                Err(error) => tracing::info!(%error, "TLS could not be agreed on with a client"),
            }
        });
    }
    drop(connections);
    tasks.close();
    tasks.wait().await;
}

/// Agrees on TLS, if it is spoken here.
async fn secure(
    connection: Connection,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
) -> io::Result<(Stream, Peer)> {
    let Some(tls) = tls else {
        let peer = Peer { address, names: Arc::default() };
        return Ok((TokioIo::new(Either::Left(connection)), peer));
    };
    let handshake = TlsAcceptor::from(tls).accept(connection);
    let stream = timeout(HANDSHAKE_PATIENCE, handshake).await??;
    let names = tls::names(stream.get_ref().1.peer_certificates()).into();
    Ok((TokioIo::new(Either::Right(Box::new(stream))), Peer { address, names }))
}

/// Runs a connection to its end.
async fn run<C>(connection: C, age: Age, stop: CancellationToken)
where
    C: GracefulConnection<Error: Display + Send>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Ok(ended),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            Ok(connection.await)
        }
        () = age.reached() => {
            connection.as_mut().graceful_shutdown();
            timeout(age.grace, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended"),
        Err(_) => tracing::info!("an old connection was cut off with calls under way"),
    }
}
