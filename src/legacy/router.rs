//! The door's routes: one call under two paths, and the probes.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
    routing::{any, get},
};
use http::{
    HeaderValue, Method, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    request::Parts,
};
use opentelemetry::Context;
use secrecy::{ExposeSecret, SecretString};
use tonic::{Code, metadata::MetadataValue};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;
use tracing::{Instrument, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    outcome::{self, Outcome},
    parameters::Parameters,
    request::{self, PATHS},
    translate::translate,
};
use crate::{
    credentials::{DOOR_IDENTITY, LegacyCredentials},
    proto::{
        Channel, UpdateUserDetailsRequest, code_name,
        user_details_service_client::UserDetailsServiceClient,
    },
    telemetry::instruments::instruments,
    trace,
};

/// The full name of the one method that the door calls.
const METHOD: &str = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";

/// Stands for a method that the semantic conventions do not know.
const OTHER: &str = "_OTHER";
/// How many characters of such a method are told.
const LONGEST_METHOD: usize = 16;

/// Stands for the answer of a call whose client has gone.
const GONE: &str = "client_gone";

/// The media type of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// `text/xml; charset=utf-8`.
    #[default]
    Xml,
    /// `text/html; charset=utf-8`, for old .NET clients.
    Html,
}

/// How much a client may send, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body, in bytes.
    pub body: usize,
    /// The longest that a call takes, from its first byte to the answer.
    pub deadline: Duration,
}

/// The door.
#[derive(Clone)]
pub struct Door {
    channel: Channel,
    identity: Option<MetadataValue<tonic::metadata::Ascii>>,
    answers: Answers,
    limits: Limits,
    /// `http` or `https`.
    scheme: &'static str,
}

impl Door {
    /// A door to the service at the other end of `channel`, with the token that proves it to be one.
    ///
    /// # Errors
    /// Where the token cannot stand in a header.
    pub fn new(
        channel: Channel,
        token: Option<&SecretString>,
        answers: Answers,
        limits: Limits,
    ) -> Result<Self, tonic::metadata::errors::InvalidMetadataValue> {
        let bearer = |token: &SecretString| format!("Bearer {}", token.expose_secret()).parse();
        let mut identity: Option<MetadataValue<_>> = token.map(bearer).transpose()?;
        if let Some(identity) = &mut identity {
            identity.set_sensitive(true);
        }
        Ok(Self { channel, identity, answers, limits, scheme: "http" })
    }

    /// Tells whether clients speak TLS to it; without it they do not.
    #[must_use]
    pub fn secured(mut self, secured: bool) -> Self {
        self.scheme = if secured { "https" } else { "http" };
        self
    }

    /// The routes.
    pub fn router(self) -> Router {
        let mut router = Router::new();
        for path in PATHS {
            router = router.route(path, any(call)).route(&format!("{path}/"), any(call));
        }
        let probes = self.probes();
        router.fallback(call).with_state(Arc::new(self)).merge(probes)
    }

    /// The routes of the probes: whether it lives, and whether the service is ready.
    pub fn probes(&self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(self.channel.clone())
    }

    /// Answers a call to one of the paths, and tells whether it was the service that did: then it has logged it.
    async fn answer(&self, request: Request, trace: &Context) -> (Outcome, bool) {
        let (parts, body) = request.into_parts();
        if request::route(parts.uri.path()).is_none() {
            return (request::not_found(), false);
        }
        if let Some(refused) = request::refused(&parts.method) {
            return (refused, false);
        }
        let begun = Instant::now();
        let body = match tokio::time::timeout(
            self.limits.deadline,
            to_bytes(body, self.limits.body),
        )
        .await
        {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if is_too_large(&error) => {
                return (request::too_large(), false);
            }
            // The client went away or was too slow.
            Ok(Err(_)) | Err(_) => return (Outcome::unavailable(), false),
        };
        let (query, body): (Parameters, _) =
            request::parameters(&parts.uri, &parts.headers, body).await;
        let parameters = query.or(body.unwrap_or_default());
        let mut call = translate(&parameters, parts.method.as_str(), &address(&parts));
        let request = std::mem::take(&mut call.request);
        let left = self.limits.deadline.saturating_sub(begun.elapsed());
        let result = match self.request(request, &call.credentials, left) {
            Ok(request) => self.update(request, left, trace).await,
            Err(status) => Err(status),
        };
        let info = result.as_ref().err().map(StatusExt::get_details_error_info);
        let by_service = info.as_ref().is_none_or(Option::is_some);
        let outcome = outcome::of(result.as_ref().copied(), &call);
        if let (Err(status), StatusCode::INTERNAL_SERVER_ERROR) = (&result, outcome.http) {
            let (code, reason) = (code_name(status.code()), info.flatten().map(|info| info.reason));
            tracing::warn!(code, reason, "the service failed, or refused the door");
        }
        (outcome, by_service)
    }

    /// The request of the one RPC.
    fn request(
        &self,
        request: UpdateUserDetailsRequest,
        credentials: &LegacyCredentials,
        deadline: Duration,
    ) -> Result<tonic::Request<UpdateUserDetailsRequest>, tonic::Status> {
        let mut request = tonic::Request::new(request);
        request.set_timeout(deadline);
        let metadata = request.metadata_mut();
        let mut credentials: MetadataValue<_> = credentials
            .to_header()
            .parse()
            .map_err(|_| tonic::Status::internal("credentials cannot stand in a header"))?;
        credentials.set_sensitive(true);
        metadata.insert("authorization", credentials);
        if let Some(identity) = &self.identity {
            metadata.insert(DOOR_IDENTITY, identity.clone());
        }
        Ok(request)
    }

    /// The one RPC, in a span of its own.
    async fn update(
        &self,
        mut request: tonic::Request<UpdateUserDetailsRequest>,
        deadline: Duration,
        trace: &Context,
    ) -> Result<(), tonic::Status> {
        let span = tracing::info_span!(
            "rpc.client",
            otel.name = METHOD,
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system.name = "grpc",
            rpc.method = METHOD,
            rpc.response.status_code = Empty,
            error.type = Empty,
        );
        trace::to_headers(&span, trace, request.metadata_mut().as_mut());
        let mut client = UserDetailsServiceClient::new(self.channel.clone());
        let begun = Instant::now();
        let call = client.update_user_details(request).instrument(span.clone());
        let result = tokio::time::timeout(deadline, call).await;
        let result =
            result.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
        let code = code_name(result.as_ref().err().map_or(Code::Ok, tonic::Status::code));
        if let Some(instruments) = instruments() {
            instruments.client_call(METHOD, code, begun.elapsed());
        }
        span.record("rpc.response.status_code", code);
        if result.is_err() {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", code);
        }
        result.map(drop)
    }

    fn respond(&self, outcome: &Outcome) -> Response {
        let mut response = Response::new(Body::from(outcome.answer.to_xml()));
        *response.status_mut() = outcome.http;
        let content_type = match self.answers {
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
}

/// One call: a span with its route and never its query string; and a line in the log, unless the service wrote it.
async fn call(State(door): State<Arc<Door>>, request: Request) -> Response {
    let route = request::route(request.uri().path()).unwrap_or_default();
    let method = method_name(request.method());
    let span = tracing::info_span!(
        "http",
        otel.name = span_name(method, route),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.request.method_original = Empty,
        http.route = Empty,
        http.response.status_code = Empty,
        url.scheme = door.scheme,
        url.path = Empty,
        error.type = Empty,
    );
    if method == OTHER {
        let original: String = request.method().as_str().chars().take(LONGEST_METHOD).collect();
        span.record("http.request.method_original", original);
    }
    // Of other paths nothing is told: they may hold anything.
    if !route.is_empty() {
        span.record("http.route", route);
        span.record("url.path", route);
    }
    let trace = trace::from_headers(request.headers());
    // Fails only where no tracer is installed.
    let _ = span.set_parent(trace.clone());
    let begun = Instant::now();
    let waits = Waits { door: &door, method, route, begun, span: &span, trace: &trace };
    let (outcome, by_service) = door.answer(request, &trace).instrument(span.clone()).await;
    std::mem::forget(waits);
    let status = outcome.http.as_u16();
    span.record("http.response.status_code", status);
    if outcome.http.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", outcome.http.as_str());
    }
    measured(&door, method, route, begun, &outcome);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                trace_id = trace::id_within(&span, &trace),
                door = "legacy",
                http.route = route,
                http.response.status_code = status,
                outcome = outcome.answer.text,
                milliseconds = begun.elapsed().as_secs_f64() * 1000.0,
                "legacy call"
            )
        };
    }
    span.in_scope(|| if by_service { line!(debug) } else { line!(info) });
    door.respond(&outcome)
}

/// A client that waits for its answer. One that goes away before it is told of and counted when this is dropped.
struct Waits<'a> {
    door: &'a Door,
    method: &'static str,
    route: &'static str,
    begun: Instant,
    span: &'a Span,
    trace: &'a Context,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(instruments) = instruments() {
            let request = (self.method, self.door.scheme, self.route);
            instruments.legacy_call(request, (None, GONE), self.begun.elapsed());
        }
        self.span.record("error.type", GONE);
        self.span.in_scope(|| {
            // If it got as far as the service, that has its line.
            tracing::debug!(
                trace_id = trace::id_within(self.span, self.trace),
                door = "legacy",
                http.route = self.route,
                outcome = GONE,
                milliseconds = self.begun.elapsed().as_secs_f64() * 1000.0,
                "legacy call"
            );
        });
    }
}

/// Counts an answer, where that is measured.
fn measured(
    door: &Door,
    method: &'static str,
    route: &'static str,
    begun: Instant,
    outcome: &Outcome,
) {
    if let Some(instruments) = instruments() {
        let request = (method, door.scheme, route);
        let answer = (Some(outcome.http.as_u16()), outcome.row);
        instruments.legacy_call(request, answer, begun.elapsed());
    }
}

/// Whether the service, here or upstream, says that it is serving.
async fn ready(State(channel): State<Channel>) -> (StatusCode, &'static str) {
    let mut client = HealthClient::new(channel);
    let check = client.check(HealthCheckRequest { service: String::new() });
    match tokio::time::timeout(Duration::from_secs(2), check).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => {
            (StatusCode::OK, "ready\n")
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

/// The method, if it is one that the semantic conventions know: anybody may make up others.
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

/// The name of a call's span, as the semantic conventions have it.
fn span_name(method: &str, route: &str) -> String {
    let method = if method == OTHER { "HTTP" } else { method };
    if route.is_empty() { method.to_owned() } else { format!("{method} {route}") }
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

fn address(parts: &Parts) -> String {
    parts.extensions.get::<SocketAddr>().map(|peer| peer.ip().to_string()).unwrap_or_default()
}
