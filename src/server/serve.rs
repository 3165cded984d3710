//! The accept loop of every listener. Each connection has a task of its own.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};
use rustix::io::Errno;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};

use super::{
    activity::{Activity, Registration},
    connection::Connection,
    limits::{Age, ConnectionLimits, Timeouts},
    listener::{Listener, Proxies},
    proxy_header,
    reasons::{Closed, Reason},
    registry::Registry,
    slot::State,
    throttle::Throttle,
};
use crate::{
    telemetry::instruments::instruments,
    tls::{self, ServerTls},
};

/// The backoff of the accept loop when file descriptors run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

/// A connection's plaintext stream.
pub(crate) type Stream = Either<Connection, Box<TlsStream<Connection>>>;

/// The client of a connection: an extension of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The address.
    pub(crate) address: SocketAddr,
    /// The names in the verified certificate; empty without a certificate.
    pub(crate) names: Arc<[tls::SubjectAltName]>,
}

impl Age {
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

/// Accepts connections and serves each with `protocol`, until `stop`. Then waits for the calls
/// under way. Dropping the future closes every connection.
pub(crate) async fn serve<C>(
    listener: Listener,
    stop: CancellationToken,
    protocol: impl Fn(TokioIo<Stream>, Peer, Arc<Activity>) -> C + Clone + Send + 'static,
) where
    C: GracefulConnection<Error = hyper::Error> + Send + 'static,
{
    let Listener { name, socket, tls, limits, proxies } = listener;
    let mut accepting = Accepting::new(Registry::new(name, &limits, proxies.clone()));
    accepting.registry.observe();
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        // In a flood, connections must be served before newer ones take their place.
        tokio::task::yield_now().await;
        accepting.registry.few_are_closing().await;
        let Some((stream, address, registration)) = accepting.admit(accepted).await else {
            continue;
        };
        let activity = Arc::clone(&registration.0);
        let connection = Connection::new(stream, registration, limits.timeouts);
        let tls = tls.as_ref().map(ServerTls::current);
        let (protocol, stop, cut) = (protocol.clone(), stop.clone(), cut.clone());
        let proxies = proxies.clone();
        let served = async move {
            let prepare = async {
                let mut connection = connection;
                let client =
                    client(&mut connection, address, &proxies, &activity, limits.timeouts).await?;
                secure(connection, client, tls, &activity, limits.timeouts).await
            };
            let secured = tokio::select! {
                () = stop.cancelled() => return,
                _ = activity.slot.closed() => return,
                secured = prepare => secured,
            };
            match secured {
                Ok((stream, peer)) => {
                    let connection = protocol(TokioIo::new(stream), peer, Arc::clone(&activity));
                    run(connection, &activity, limits, stop).await;
                }
                Err(error) => tracing::info!(%error, "a connection could not begin"),
            }
        };
        tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = served => {}
            }
        });
    }
    drop(socket);
    tasks.close();
    tasks.wait().await;
}

/// The state of the accept loop.
struct Accepting {
    registry: Arc<Registry>,
    refusals: Throttle,
    exhausted: Throttle,
}

impl Accepting {
    fn new(registry: Arc<Registry>) -> Self {
        Self { registry, refusals: Throttle::default(), exhausted: Throttle::default() }
    }

    /// Registers an accepted connection; `None` if the connection was refused or not accepted.
    async fn admit(
        &mut self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> Option<(TcpStream, SocketAddr, Registration)> {
        let listener = self.registry.name();
        match accepted {
            Ok((stream, address)) => match Registration::new(&self.registry, address.ip()) {
                Ok(registration) => Some((stream, address, registration)),
                Err(reason) => {
                    self.refused(reason);
                    if let Some(count) = self.refusals.count() {
                        let reason = reason.as_str();
                        tracing::warn!(listener, reason, count, "connections were refused");
                    }
                    None
                }
            },
            // The client has gone already: accept(2) passes on errors of the new connection.
            Err(error) if !is_exhausted(&error) => None,
            Err(error) => {
                self.refused(Reason::Descriptors);
                self.registry.free_descriptor();
                if let Some(count) = self.exhausted.count() {
                    tracing::warn!(listener, %error, count, "connections could not be accepted");
                }
                sleep(ACCEPT_BACKOFF).await;
                None
            }
        }
    }

    fn refused(&self, reason: Reason) {
        if let Some(instruments) = instruments() {
            instruments.listeners.refused(self.registry.name(), reason.as_str());
        }
    }
}

/// Whether the process or the system has no more descriptors or memory for connections.
fn is_exhausted(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// The address of the client, from the header of the PROXY protocol if the listener has it.
async fn client(
    connection: &mut Connection,
    peer: SocketAddr,
    proxies: &Proxies,
    activity: &Activity,
    timeouts: Timeouts,
) -> io::Result<SocketAddr> {
    if !proxies.write_header {
        return Ok(peer);
    }
    let header = async {
        if !proxies.trusted.is_empty() && !proxies.trusted.contains(peer.ip()) {
            let refused = "the address may not send a PROXY header";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
        }
        proxy_header::read(connection, peer).await
    };
    let header = timeout(timeouts.head, header).await.unwrap_or_else(|late| Err(late.into()));
    let client = header.inspect_err(|_| activity.slot.count_closed(Closed::ProxyHeader))?;
    activity.moves_to(client.ip()).map_err(|reason| {
        activity.slot.count_closed(Closed::Full(reason));
        io::ErrorKind::QuotaExceeded
    })?;
    connection.await_first_byte();
    Ok(client)
}

/// Performs the TLS handshake, if the listener has TLS.
async fn secure(
    connection: Connection,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    activity: &Activity,
    timeouts: Timeouts,
) -> io::Result<(Stream, Peer)> {
    let Some(tls) = tls else {
        let peer = Peer { address, names: Arc::default() };
        return Ok((Either::Left(connection), peer));
    };
    let handshake = TlsAcceptor::from(tls).accept(connection);
    let secured = timeout(timeouts.handshake, handshake).await;
    if secured.is_err() {
        activity.slot.count_closed(Closed::Handshake);
    }
    let stream = secured??;
    let names = tls::names(stream.get_ref().1.peer_certificates()).into();
    Ok((Either::Right(Box::new(stream)), Peer { address, names }))
}

/// Runs a connection to its end.
async fn run<C>(
    connection: C,
    activity: &Activity,
    limits: ConnectionLimits,
    stop: CancellationToken,
) where
    C: GracefulConnection<Error = hyper::Error>,
{
    let ended = |ended: hyper::Result<()>| {
        if let Err(error) = ended {
            // hyper's timeouts. The connection's own timeouts have been counted.
            if error.is_timeout() {
                activity.slot.count_closed(Closed::Idle);
            }
            tracing::debug!(%error, "a connection ended");
        }
    };
    let mut connection = pin!(connection);
    let grace = tokio::select! {
        result = &mut connection => return ended(result),
        // The drain deadline closes the remaining connections.
        () = stop.cancelled() => Duration::MAX,
        () = async { limits.age.reached().await; activity.grow_old().await } => limits.age.grace,
        at_once = activity.slot.closed() => {
            if at_once {
                return;
            }
            Duration::ZERO
        }
    };
    connection.as_mut().graceful_shutdown();
    let cut = async {
        let closed = async {
            if !activity.slot.closed().await {
                sleep(limits.timeouts.linger).await;
                // A call may arrive before the client learns of the shutdown.
                if activity.slot.state() == State::Active {
                    sleep(limits.age.grace).await;
                }
            }
        };
        if grace.is_zero() {
            return closed.await;
        }
        tokio::select! {
            () = sleep(grace) => {
                tracing::info!("an old connection was cut off with calls under way");
            }
            () = closed => {}
        }
    };
    tokio::select! {
        result = &mut connection => ended(result),
        () = cut => {}
    }
}

#[cfg(test)]
mod tests;
