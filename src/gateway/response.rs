//! The responses to legacy calls.

use axum::{body::Body, response::Response};
use http::{
    HeaderValue, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};

use crate::legacy_call::outcome::Outcome;

/// The media type of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// `text/xml; charset=utf-8`.
    #[default]
    Xml,
    /// `text/html; charset=utf-8`, for old .NET clients.
    Html,
}

/// The response with an outcome.
pub(super) fn response(outcome: &Outcome, answers: Answers) -> Response {
    let mut response = Response::new(Body::from(outcome.answer.to_xml()));
    *response.status_mut() = outcome.http;
    let content_type = match answers {
        Answers::Xml => "text/xml; charset=utf-8",
        Answers::Html => "text/html; charset=utf-8",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if outcome.http == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    if let Some(delay) = outcome.retry_after {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}
