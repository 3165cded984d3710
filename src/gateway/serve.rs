//! The HTTP/1.1 listeners: the legacy call, and the admin listener.

use std::{convert::Infallible, sync::Arc};

use axum::Router;
use http::{HeaderValue, header::CONNECTION};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    budget::MemoryBudget,
    server::{
        self, Activity, HeadTimeout, Listener, Peer, Stream,
        head::{HeadReader, MAX_PASSED, Notes},
    },
};

/// Serves a listener until `stop`, then finishes the calls under way. `calls` tracks the calls.
/// Heads and bodies count in the budget.
pub async fn serve(
    listener: Listener,
    router: Router,
    budget: Arc<MemoryBudget>,
    stop: CancellationToken,
    calls: TaskTracker,
) {
    let timeouts = listener.limits.timeouts;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(timeouts.idle).max_buf_size(MAX_PASSED);
    let protocol = move |stream: TokioIo<Stream>, peer: Peer, activity: Arc<Activity>| {
        let (notes, budget) = (Notes::default(), budget.connection());
        let stream = HeadTimeout::new(stream.into_inner(), Arc::clone(&activity), timeouts.head);
        let stream = HeadReader::new(stream, notes.clone(), Some(Arc::clone(&budget)));
        let (router, calls) = (router.clone(), calls.clone());
        activity.end_with_response();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (mut request, call) = activity.call(request, false);
            notes.request(request.extensions_mut());
            request.extensions_mut().insert(peer.address);
            request.extensions_mut().insert(Arc::clone(&budget));
            let answer = router.clone().oneshot(request.map(axum::body::Body::new));
            let activity = Arc::clone(&activity);
            calls.track_future(async move {
                let mut response = answer.await?;
                if activity.is_old() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(call.answered(response))
            })
        });
        http.serve_connection(TokioIo::new(stream), service)
    };
    server::serve(listener, stop, protocol).await;
}
