//! The log line, metrics and spans of a legacy call.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use axum::extract::Request;
use http::{HeaderMap, Method, StatusCode};
use opentelemetry::{KeyValue, trace::SpanKind};
use tonic::Code;

use crate::{
    legacy_call::{
        outcome::{self, Outcome},
        request,
    },
    proto::code_name,
    telemetry::{instruments::instruments, logs::milliseconds, metrics, names},
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

/// The answer to a legacy call, with the facts for its log line.
pub(super) struct Answered {
    pub(super) outcome: Outcome,
    /// Whether the service answered, and so has logged the call.
    pub(super) by_service: bool,
    /// The status code of the RPC, if it was called.
    pub(super) code: Option<Code>,
    pub(super) user_id: Option<i64>,
    /// The paths of the refused fields, separated by commas.
    pub(super) refused_fields: Option<String>,
    /// The headers about the retirement of the call.
    pub(super) retirement: HeaderMap,
}

impl From<Outcome> for Answered {
    /// An answer of the gateway, without a call to the service.
    fn from(outcome: Outcome) -> Self {
        let (code, user_id, refused_fields, retirement) = Default::default();
        Self { outcome, by_service: false, code, user_id, refused_fields, retirement }
    }
}

/// A legacy call: its span, duration and log line. The span has the route, never the query string.
/// Dropping an unanswered call records that its client has gone.
pub(super) struct LegacyCall {
    method: &'static str,
    scheme: &'static str,
    route: &'static str,
    client: Option<IpAddr>,
    begun: Instant,
    pub(super) span: Span,
    is_answered: bool,
}

impl LegacyCall {
    /// Begins a call over `http` or `https`.
    pub(super) fn begin(request: &Request, scheme: &'static str, client: Option<IpAddr>) -> Self {
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
        Self { method, scheme, route, client, begun: Instant::now(), span, is_answered: false }
    }

    /// Ends the call with its answer.
    pub(super) fn end(mut self, answered: &Answered) {
        self.is_answered = true;
        let outcome = &answered.outcome;
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
                    { names::CLIENT_ADDRESS } = self.client.map(display),
                    user_id = answered.user_id,
                    http.route = self.route,
                    http.response.status_code = status,
                    rpc.response.status_code = answered.code.map(code_name),
                    outcome = outcome.reason,
                    row = outcome.row,
                    refused_fields = answered.refused_fields,
                    milliseconds = milliseconds(took),
                    "legacy call"
                )
            };
        }
        // The gateway itself refuses values that no typed field can hold. The service only validates
        // such a call, and its log line may say `OK`.
        let is_refused_here = answered.code == Some(Code::Ok) && outcome.reason != "OK";
        if outcome.http == StatusCode::INTERNAL_SERVER_ERROR {
            line!(warn);
        } else if is_refused_here || !answered.by_service {
            line!(info);
        } else {
            line!(debug);
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
            { names::CLIENT_ADDRESS } = self.client.map(display),
            http.route = self.route,
            outcome = "CANCELLED",
            milliseconds = milliseconds(self.begun.elapsed()),
            "legacy call"
        );
        self.span.end();
    }
}

/// The gateway's call to the service. A call that is dropped before its end was cancelled.
pub(super) struct ClientCall<'a> {
    pub(super) span: Span,
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
