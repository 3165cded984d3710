//! HTTP/1.1 connections: each has a deadline for its next request's head.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioTimer, service::TowerToHyperService};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceBuilder, ServiceExt};

use crate::{
    listen::{self, Age, Peer, Stream},
    tls::ServerTls,
};

/// How long a client may take for the head of a request, and be idle between two.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes. A request target may have 60 KiB.
const LARGEST_HEAD: usize = 128 * 1024;

/// Answers requests on a listener until `stop`, then finishes those under way, which `calls` counts.
pub async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    router: Router,
    stop: CancellationToken,
    calls: TaskTracker,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(LARGEST_HEAD);
    let protocol = move |stream: Stream, peer: Peer| {
        let tell_peer = move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer.address);
            request.map(axum::body::Body::new)
        };
        let calls = calls.clone();
        let service = ServiceBuilder::new()
            .map_request(tell_peer)
            .map_future(move |call| calls.track_future(call))
            .service(router.clone());
        http.serve_connection(stream, TowerToHyperService::new(service.boxed_clone()))
    };
    listen::serve(listener, tls, Age::UNBOUNDED, stop, protocol).await;
}
