//! The log line, metrics and spans of a legacy call.

use std::time::{Duration, Instant};

use axum::extract::Request;
use http::{HeaderMap, Method};
use opentelemetry::{KeyValue, trace::SpanKind};
use tonic::Code;

use super::{
    outcome::{self, Outcome},
    request,
};
use crate::{
    proto::code_name,
    telemetry::{instruments::instruments, metrics, names},
    trace::Span,
};

/// The full name of the RPC method.
const METHOD: &str = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";

/// Replaces a method that the semantic conventions do not know.
const OTHER: &str = "_OTHER";
/// The maximum length of an unknown method in a span, in characters.
const LONGEST_METHOD: usize = 16;

/// The outcome of a call whose client disconnected before the answer.
const GONE: &str = "client_gone";

/// Starts counters at 0: `increase()` misses the first increment of a series that appears late.
pub(super) fn expect_answers() {
    if let Some(instruments) = instruments() {
        outcome::ROWS.iter().chain([&GONE]).for_each(|row| instruments.legacy_answers(0, row));
        instruments.unanswered(0);
    }
}

/// Counts a call without an answer from the service.
pub(super) fn unanswered() {
    if let Some(instruments) = instruments() {
        instruments.unanswered(1);
    }
}

/// A legacy call: its span, duration and log line. The span has the route, never the query string.
/// Dropping an unanswered call records that its client has gone.
pub(super) struct LegacyCall {
    method: &'static str,
    scheme: &'static str,
    route: &'static str,
    begun: Instant,
    span: Span,
    is_answered: bool,
}

impl LegacyCall {
    /// Begins a call over `http` or `https`.
    pub(super) fn begin(request: &Request, scheme: &'static str) -> Self {
        let route = request::route(request.uri().path()).unwrap_or_default();
        let method = method_name(request.method());
        let span = Span::of_caller(request.headers());
        let span = span.child(SpanKind::Server, || span_name(method, route).into());
        span.set_attributes(|| {
            [
                KeyValue::new(names::HTTP_REQUEST_METHOD, method),
                KeyValue::new(names::URL_SCHEME, scheme),
            ]
        });
        if method == OTHER {
            let original = request.method().as_str().chars().take(LONGEST_METHOD);
            span.set_attributes(|| {
                [KeyValue::new(names::HTTP_REQUEST_METHOD_ORIGINAL, original.collect::<String>())]
            });
        }
        // The span omits other paths: they may contain anything.
        if !route.is_empty() {
            let path = || request.uri().path().to_owned();
            span.set_attributes(|| {
                [KeyValue::new(names::HTTP_ROUTE, route), KeyValue::new(names::URL_PATH, path())]
            });
        }
        Self { method, scheme, route, begun: Instant::now(), span, is_answered: false }
    }

    /// The call's span.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Ends the call with an answer from the service or the gateway.
    pub(super) fn end(mut self, outcome: &Outcome, by_service: bool) {
        self.is_answered = true;
        let status = outcome.http.as_u16();
        self.span.set_attributes(|| {
            [KeyValue::new(names::HTTP_RESPONSE_STATUS_CODE, i64::from(status))]
        });
        if outcome.http.is_server_error() {
            self.span.set_error(|| outcome.http.as_str().to_owned().into());
        }
        let took = self.begun.elapsed();
        self.measured(Some(status), outcome.row, took);
        metrics::exemplar(names::HTTP_SERVER_REQUEST_DURATION, &self.span, took, || {
            let mut labels = vec![
                (names::HTTP_REQUEST_METHOD, self.method.to_owned()),
                (names::HTTP_RESPONSE_STATUS_CODE, outcome.http.as_str().to_owned()),
            ];
            if !self.route.is_empty() {
                labels.push((names::HTTP_ROUTE, self.route.to_owned()));
            }
            labels
        });
        let _entered = self.span.enter();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    trace_id = self.span.trace_id().map(display),
                    door = "legacy",
                    http.route = self.route,
                    http.response.status_code = status,
                    outcome = outcome.answer.text,
                    milliseconds = took.as_secs_f64() * 1000.0,
                    "legacy call"
                )
            };
        }
        if by_service {
            line!(debug);
        } else {
            line!(info);
        }
        self.span.end();
    }

    fn measured(&self, status: Option<u16>, row: &'static str, took: Duration) {
        if let Some(instruments) = instruments() {
            let request = (self.method, self.scheme, self.route);
            instruments.legacy_call(request, (status, row), took);
        }
    }
}

impl Drop for LegacyCall {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        self.measured(None, GONE, self.begun.elapsed());
        self.span.set_error(|| GONE.into());
        let _entered = self.span.enter();
        // Debug level: the service logs the calls that reach the service.
        tracing::debug!(
            trace_id = self.span.trace_id().map(display),
            door = "legacy",
            http.route = self.route,
            outcome = GONE,
            milliseconds = self.begun.elapsed().as_secs_f64() * 1000.0,
            "legacy call"
        );
        self.span.end();
    }
}

/// The gateway's call to the service. A call that is dropped before its end was cancelled.
pub(super) struct ClientCall<'a> {
    span: Span,
    server: &'a [KeyValue],
    begun: Instant,
    code: Code,
}

impl<'a> ClientCall<'a> {
    /// Begins a call to `server` in a child of the legacy call's span.
    pub(super) fn begin(legacy_call: &Span, server: &'a [KeyValue]) -> Self {
        let span = legacy_call.child(SpanKind::Client, || METHOD.into());
        span.set_attributes(|| {
            [
                KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"),
                KeyValue::new(names::RPC_METHOD, METHOD),
            ]
        });
        span.set_all_attributes(server);
        Self { span, server, begun: Instant::now(), code: Code::Cancelled }
    }

    /// Adds the span and its baggage to `headers`.
    pub(super) fn to_headers(&self, headers: &mut HeaderMap) {
        self.span.to_headers(headers);
    }

    /// Ends the call with a status code.
    pub(super) fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for ClientCall<'_> {
    fn drop(&mut self) {
        let code = code_name(self.code);
        if let Some(instruments) = instruments() {
            instruments.client_call(METHOD, code, self.server, self.begun.elapsed());
        }
        self.span.set_attributes(|| [KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, code)]);
        if self.code != Code::Ok {
            self.span.set_error(|| code.into());
        }
        self.span.end();
    }
}

/// The method if the semantic conventions know it, else [`OTHER`]: clients can invent methods.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::CONNECT => "CONNECT",
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::TRACE => "TRACE",
        _ => OTHER,
    }
}

/// The name of a call's span, by the semantic conventions.
fn span_name(method: &str, route: &str) -> String {
    let method = if method == OTHER { "HTTP" } else { method };
    if route.is_empty() { method.to_owned() } else { format!("{method} {route}") }
}
