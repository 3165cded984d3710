//! The path, method and parameters of a legacy call.

use std::str::FromStr;

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri, uri::InvalidUri};

use super::{
    body::{self, Refused, Unreadable},
    outcome::Outcome,
    parameters::{Take, from_form},
};
use crate::server::head::{LongQuery, MAX_HEAD, MAX_URI, Refusal, is_query};

/// The paths of the call.
pub(super) const PATHS: [&str; 2] =
    ["/billing/api/user_details_update", "/api/user_details_update"];

/// The entry of [`PATHS`] for a path. Repeated slashes count as one; a trailing slash is ignored.
pub(crate) fn route(path: &str) -> Option<&'static str> {
    PATHS.into_iter().find(|own| *own == path || segments(own).eq(segments(path)))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// The answer to a request of another path.
pub(crate) fn not_found() -> Outcome {
    Outcome::refused(StatusCode::NOT_FOUND, "There is no such API")
}

/// The answer to an unsupported method; `None` if the method is supported.
pub(crate) fn refused(method: &Method) -> Option<Outcome> {
    let known = matches!(*method, Method::GET | Method::HEAD | Method::POST);
    let text = "Method is not allowed";
    (!known).then(|| Outcome::refused(StatusCode::METHOD_NOT_ALLOWED, text))
}

/// The answer to a request that breaks the rules of HTTP.
pub(super) fn bad_request() -> Outcome {
    Outcome::refused(StatusCode::BAD_REQUEST, "Bad request")
}

/// The answer to a refused head.
pub(crate) fn refused_head(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Malformed => bad_request(),
        Refusal::TooLarge => too_large(),
        Refusal::Overloaded => overloaded(),
    }
}

impl From<Refused> for Outcome {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooLarge => too_large(),
            Refused::Broken => bad_request(),
            Refused::Overloaded => overloaded(),
        }
    }
}

/// The answer if the byte budget is exhausted.
pub(super) fn overloaded() -> Outcome {
    Outcome::refused(StatusCode::TOO_MANY_REQUESTS, "Too many requests")
}

/// The answer to a head or a body that is too large.
pub(super) fn too_large() -> Outcome {
    Outcome::refused(StatusCode::PAYLOAD_TOO_LARGE, "Request is too large")
}

/// The parameters in the query string, which take precedence, and the parameters in the body.
pub(crate) async fn parameters<T: Take>(
    query: &[u8],
    headers: &HeaderMap,
    body: Result<Bytes, Unreadable>,
) -> (T, Result<T, Unreadable>) {
    let body = match body {
        Ok(body) => body::parameters(headers, body).await,
        Err(unreadable) => Err(unreadable),
    };
    (from_form(query), body)
}

/// The query string of a request.
pub(crate) fn query<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a [u8] {
    match extensions.get::<LongQuery>() {
        Some(query) => query.as_bytes(),
        None => uri.query().unwrap_or_default().as_bytes(),
    }
}

/// The target of a call. Its query string may be longer than [`Uri`] allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The target, without a query string that is too long.
    pub(crate) uri: Uri,
    /// A query string that is too long for `uri`.
    pub(crate) long_query: Option<String>,
}

impl Target {
    /// The query string.
    pub fn query(&self) -> &str {
        self.long_query.as_deref().or(self.uri.query()).unwrap_or_default()
    }
}

impl FromStr for Target {
    type Err = InvalidUri;

    fn from_str(target: &str) -> Result<Self, InvalidUri> {
        let bare = target.split('#').next().unwrap_or_default();
        match (target.parse(), bare.split_once('?')) {
            (Ok(uri), _) => Ok(Self { uri, long_query: None }),
            (Err(_), Some((path, query)))
                if (MAX_URI + 1..=MAX_HEAD).contains(&bare.len()) && is_query(query) =>
            {
                Ok(Self { uri: path.parse()?, long_query: Some(query.to_owned()) })
            }
            (Err(error), _) => Err(error),
        }
    }
}

/// The target of a call, from a URL, a path with a query string, or a query string alone.
///
/// # Errors
/// The target is invalid.
pub fn target(url: &str) -> Result<Target, InvalidUri> {
    let beginning = url.split('?').next().unwrap_or_default();
    if ["/", "http://", "https://"].iter().any(|start| url.starts_with(start)) {
        url.parse()
    } else if beginning.contains('/') && !beginning.contains('=') {
        format!("http://{url}").parse()
    } else {
        format!("{}?{}", PATHS[0], url.strip_prefix('?').unwrap_or(url)).parse()
    }
}
