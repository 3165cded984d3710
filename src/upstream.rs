//! The way of a door of its own to the service that it speaks to.

use std::{io, time::Duration};

use http::Uri;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tonic::{Status, body::Body, transport};
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

/// Connects when it is used, and again when a connection has ended.
pub(crate) fn channel(upstream: &Upstream) -> Channel {
    let endpoint = upstream
        .endpoint
        .clone()
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

/// Sends a request; again, if it never left, as its connection was just being ended: a service does that to old ones.
async fn send(
    channel: transport::Channel,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let body = Full::new(body.collect().await?.to_bytes());
    let send = || {
        channel.clone().oneshot(http::Request::from_parts(parts.clone(), Body::new(body.clone())))
    };
    let answer = match send().await {
        Err(error) if never_left(&error) => send().await,
        answer => answer,
    };
    // Of a connection that breaks tonic itself would say UNKNOWN.
    answer.map_err(|error| Status::unavailable(chain(&error)))
}

fn never_left(error: &transport::Error) -> bool {
    let mut causes = causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    causes.any(hyper::Error::is_canceled)
}
