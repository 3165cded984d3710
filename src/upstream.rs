//! The way of a door of its own to the service that it speaks to.

use std::{io, time::Duration};

use http::{Uri, uri::Scheme};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
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

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a connection that is silent is asked whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How often a request is sent at most.
const ATTEMPTS: u32 = 3;

/// Connects when it is used, and again when a connection has ended.
pub(crate) fn channel(upstream: &Upstream) -> Channel {
    let endpoint = if upstream.tls.is_some() {
        secured_elsewhere(&upstream.endpoint)
    } else {
        upstream.endpoint.clone()
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT_PATIENCE)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .tcp_nodelay(true);
    let channel = match upstream.tls.clone() {
        None => endpoint.connect_lazy(),
        Some(tls) => {
            endpoint.connect_with_connector_lazy(service_fn(move |uri| connect(tls.clone(), uri)))
        }
    };
    Channel::new(service_fn(move |request| send(channel.clone(), request)))
}

/// The same endpoint where tonic does not speak TLS itself: it refuses `https`, but for what requests tell of their origin.
fn secured_elsewhere(endpoint: &Endpoint) -> Endpoint {
    let mut plain = endpoint.uri().clone().into_parts();
    plain.scheme = Some(Scheme::HTTP);
    match Uri::from_parts(plain) {
        Ok(plain) => Endpoint::from(plain).origin(endpoint.uri().clone()),
        Err(_) => endpoint.clone(),
    }
}

/// Connects with TLS, with the certificates of the time.
async fn connect(tls: ClientTls, upstream: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let host = upstream.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), upstream.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls.current()).connect(name, stream).await?;
    Ok(TokioIo::new(stream))
}

/// Sends a request; again, if the upstream had not begun it, as its connection was just being ended: a service does that to
/// those that are old.
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
            Err(error) if attempt < ATTEMPTS && was_not_begun(&error) => attempt += 1,
            // Of a connection that breaks tonic itself would say UNKNOWN.
            answer => return answer.map_err(|error| Status::unavailable(chain(&error))),
        }
    }
}

/// Whether a request never left, or came behind the last one of which GOAWAY says that it is still answered.
fn was_not_begun(error: &transport::Error) -> bool {
    causes(error).any(|cause| {
        let unsent = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let behind = cause.downcast_ref::<h2::Error>().is_some_and(|error| {
            error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
        });
        unsent || behind
    })
}
