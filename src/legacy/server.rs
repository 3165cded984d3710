//! HTTP/1.1 connections: each has a deadline for its next request's head.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{ServiceBuilder, ServiceExt};

use crate::listen::Connections;

/// How long a client may take for the head of a request, and be idle between two.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The largest head of a request, in bytes. A request target may have 60 KiB.
const LARGEST_HEAD: usize = 128 * 1024;
/// Answers requests on a listener until `stop`, then finishes those under way, which `calls` counts.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    calls: TaskTracker,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(LARGEST_HEAD);
    let connections = Connections::new(listener);
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = connections.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => break,
            },
        };
        let tell_peer = move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            request.map(axum::body::Body::new)
        };
        let calls = calls.clone();
        let service = ServiceBuilder::new()
            .map_request(tell_peer)
            .map_future(move |call| calls.track_future(call))
            .service(router.clone());
        let service = TowerToHyperService::new(service.boxed_clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(connections);
    graceful.shutdown().await;
}
