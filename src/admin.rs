//! The admin listener for operators: metrics and probes.

use std::sync::Arc;

use axum::{
    Extension, Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use tokio::sync::Semaphore;

use crate::{
    domain::error::chain,
    server::head::Refusal,
    telemetry::metrics::{self, Format},
};

/// Maximum number of parallel scrapes: each holds all metrics in memory.
pub(crate) const SCRAPES: usize = 2;

/// The routes of metrics and probes.
pub(crate) fn router(probes: Router) -> Router {
    let room = Arc::new(Semaphore::new(SCRAPES));
    let router = probes.route("/metrics", get(move |headers| scrape(room, headers)));
    router.fallback(unserved)
}

/// Responds to refused heads and unknown paths.
async fn unserved(refusal: Option<Extension<Refusal>>) -> StatusCode {
    refusal.map_or(StatusCode::NOT_FOUND, |Extension(refusal)| refusal.status())
}

async fn scrape(room: Arc<Semaphore>, headers: HeaderMap) -> Response {
    let Ok(room) = room.try_acquire_owned() else {
        let later = [(RETRY_AFTER, "1")];
        return (StatusCode::SERVICE_UNAVAILABLE, later, "too many scrapes at once\n")
            .into_response();
    };
    let format = Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    // Encoding takes long, so it must not block calls. It keeps its permit if the client leaves.
    let write = move || {
        let _room = room;
        metrics::text(format)
    };
    let text = match tokio::task::spawn_blocking(write).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return failed(&error),
        Err(panicked) => return failed(&panicked),
    };
    let headers = [(CONTENT_TYPE, format.media_type()), (CACHE_CONTROL, "no-store")];
    (headers, text).into_response()
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Response {
    tracing::warn!(error = chain(error), "metrics could not be written down");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
