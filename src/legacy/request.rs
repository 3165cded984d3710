//! What makes a request a legacy call: its path, its method, and its parameters.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, uri::InvalidUri};

use super::{
    body,
    outcome::Outcome,
    parameters::{Take, from_form},
};

/// The paths of the call.
pub(super) const PATHS: [&str; 2] =
    ["/billing/api/user_details_update", "/api/user_details_update"];

/// The one of [`PATHS`] that a path is; a slash at its end is tolerated.
pub(super) fn route(path: &str) -> Option<&'static str> {
    let bare = path.strip_suffix('/').unwrap_or(path);
    PATHS.into_iter().find(|own| *own == bare)
}

/// The answer to a request of another path.
pub(super) fn not_found() -> Outcome {
    Outcome::refused(StatusCode::NOT_FOUND, "There is no such API")
}

/// The answer to a method that the call does not know; none to others.
pub(super) fn refused(method: &Method) -> Option<Outcome> {
    let known = matches!(*method, Method::GET | Method::HEAD | Method::POST);
    let text = "Method is not allowed";
    (!known).then(|| Outcome::refused(StatusCode::METHOD_NOT_ALLOWED, text))
}

/// The answer to a body that is too large.
pub(super) fn too_large() -> Outcome {
    Outcome::refused(StatusCode::PAYLOAD_TOO_LARGE, "Request is too large")
}

/// The parameters in the query string, which win, and those in the body; none where it counts as absent.
pub(super) async fn parameters<T: Take>(
    target: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> (T, Option<T>) {
    let query = from_form(target.query().unwrap_or_default().as_bytes());
    (query, body::parameters(headers, body).await)
}

/// The target of a call: of its URL, of its path with the query string, or of the query string alone.
///
/// # Errors
/// Where no request can have such a target.
pub fn target(url: &str) -> Result<Uri, InvalidUri> {
    let beginning = url.split('?').next().unwrap_or_default();
    if ["/", "http://", "https://"].iter().any(|start| url.starts_with(start)) {
        url.parse()
    } else if beginning.contains('/') && !beginning.contains('=') {
        format!("http://{url}").parse()
    } else {
        format!("{}?{}", PATHS[0], url.strip_prefix('?').unwrap_or(url)).parse()
    }
}
