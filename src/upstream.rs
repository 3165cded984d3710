//! The connection of a standalone gateway to its upstream.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Uri, uri::Scheme};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_util::either::Either;
use tonic::{
    Status,
    body::Body,
    transport::{self, Endpoint},
};
use tower::{ServiceExt, service_fn};

use crate::{
    config::Upstream,
    domain::error::{causes, chain},
    proto::Channel,
    tls::ClientTls,
};

/// Timeout for connecting to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Silence on a connection with a running call before an HTTP/2 keepalive PING.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Timeout of a keepalive PING. It moves the gateway from an address that accepts connections but
/// does not answer to the next address.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of attempts to send a request.
const MAX_CONNECT_ATTEMPTS: u32 = 3;

/// A channel that connects on first use and reconnects.
pub(crate) fn channel(upstream: &Upstream) -> Channel {
    let endpoint = if upstream.tls.is_some() {
        secured_elsewhere(&upstream.endpoint)
    } else {
        upstream.endpoint.clone()
    };
    channel_to(endpoint, upstream.tls.clone(), resolve)
}

fn channel_to<F>(
    endpoint: Endpoint,
    tls: Option<ClientTls>,
    resolve: impl Fn(Uri, u16) -> F + Clone + Send + Sync + 'static,
) -> Channel
where
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let first = Arc::new(AtomicUsize::new(0));
    let connector = service_fn(move |uri: Uri| {
        let usual_port = if tls.is_some() { 443 } else { 80 };
        let (tls, addresses) = (tls.clone(), resolve(uri.clone(), usual_port));
        // The next connection starts with another address: this address may be unusable.
        let first = first.fetch_add(1, Ordering::Relaxed);
        async move { connect(tls, &uri, &addresses.await?, first).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector_lazy(connector);
    Channel::new(service_fn(move |request| send(channel.clone(), request)))
}

/// The addresses of an upstream's host.
async fn resolve(upstream: Uri, usual_port: u16) -> io::Result<Vec<SocketAddr>> {
    let port = upstream.port_u16().unwrap_or(usual_port);
    Ok(lookup_host((host(&upstream), port)).await?.collect())
}

fn host(upstream: &Uri) -> &str {
    upstream.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// The endpoint as `http`: tonic refuses `https` without its own TLS. The origin stays `https`.
fn secured_elsewhere(endpoint: &Endpoint) -> Endpoint {
    let mut plain = endpoint.uri().clone().into_parts();
    plain.scheme = Some(Scheme::HTTP);
    match Uri::from_parts(plain) {
        Ok(plain) => Endpoint::from(plain).origin(endpoint.uri().clone()),
        Err(_) => endpoint.clone(),
    }
}

/// Connects to the first address that answers, starting at index `first`. TLS uses the current
/// certificates.
async fn connect(
    tls: Option<ClientTls>,
    upstream: &Uri,
    addresses: &[SocketAddr],
    first: usize,
) -> io::Result<Either<TcpStream, Box<TlsStream<TcpStream>>>> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for index in 0..addresses.len() {
        let address = addresses[(first + index) % addresses.len()];
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = &tls else { return Ok(Either::Left(stream)) };
            let name = ServerName::try_from(host(upstream).to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(tls.current()).connect(name, stream).await?;
            Ok(Either::Right(Box::new(stream)))
        };
        match timeout(CONNECT_TIMEOUT, connected).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Sends a request, and retries a request that the upstream never began: services close old
/// connections.
async fn send(
    channel: transport::Channel,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let body = Full::new(body.collect().await?.to_bytes());
    let mut attempt = 1;
    loop {
        let request = http::Request::from_parts(parts.clone(), Body::new(body.clone()));
        match channel.clone().oneshot(request).await {
            Err(error) if attempt < MAX_CONNECT_ATTEMPTS && was_not_begun(&error) => attempt += 1,
            // tonic would report a broken connection as UNKNOWN.
            answer => return answer.map_err(|error| Status::unavailable(chain(&error))),
        }
    }
}

/// Whether a request was never sent, or came after the last stream of a GOAWAY.
fn was_not_begun(error: &transport::Error) -> bool {
    causes(error).any(|cause| {
        let unsent = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let behind = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
            error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
        });
        unsent || behind
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Serves HTTP/2, and answers every request with OK.
    async fn answers(listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
            });
        }
    }

    #[tokio::test]
    async fn an_address_that_accepts_and_does_not_answer_is_left_for_the_next_one() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = vec![silent.local_addr().unwrap(), good.local_addr().unwrap()];
        tokio::spawn(answers(good));
        let endpoint = Endpoint::from_static("http://upstream.test");
        let resolve = move |_, _| std::future::ready(Ok(addresses.clone()));
        let channel = channel_to(endpoint, None, resolve);
        let request = || http::Request::post("/").body(Body::empty()).unwrap();
        let begun = tokio::time::Instant::now();
        channel.clone().oneshot(request()).await.unwrap_err();
        assert!(begun.elapsed() >= KEEPALIVE_TIMEOUT, "it was asked whether it lives");
        channel.oneshot(request()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        drop(silent);
    }
}
