//! The gateway's routes: the legacy call under two paths, and the probes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONNECTION, request::Parts};
use hyper::body::Body as _;
use opentelemetry::KeyValue;
use tonic::{Code, metadata::MetadataValue};
use tonic_types::StatusExt;

use super::{
    body_reader::BodyReader,
    client_address::TrustedProxies,
    readiness::{Readiness, identity},
    response::{Answers, response},
    retirement,
    telemetry::{self, Answered, ClientCall, LegacyCall},
};
use crate::{
    credentials::{DOOR_IDENTITY, UNFIT_FIELDS},
    legacy_call::{
        body::{Refused, Unreadable},
        outcome::{self, Outcome},
        parameters::Parameters,
        request,
        translate::{Translated, translate},
    },
    proto::{
        Channel, UpdateUserDetailsRequest, user_details_service_client::UserDetailsServiceClient,
    },
    secrets::Secrets,
    telemetry::names,
    trace::Span,
};

/// The limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body, in bytes.
    pub body: usize,
    /// The timeout of a call, from the start of its body to the answer.
    pub deadline: Duration,
}

/// The HTTP gateway to the service.
#[derive(Clone)]
pub struct Gateway {
    channel: Channel,
    tokens: Option<Secrets>,
    readiness: Arc<Readiness>,
    answers: Answers,
    limits: Limits,
    /// The proxies that tell the addresses of clients.
    pub(crate) proxies: TrustedProxies,
    /// `http`, or `https` if clients use TLS.
    pub(crate) scheme: &'static str,
    /// Attributes of the service's address; empty if the service is in this process.
    server: Arc<[KeyValue]>,
}

impl Gateway {
    /// A gateway to the service behind `channel`. The current one of `tokens` authenticates the
    /// gateway.
    pub fn new(
        channel: Channel,
        tokens: Option<Secrets>,
        answers: Answers,
        limits: Limits,
    ) -> Self {
        let readiness = Arc::new(Readiness::new(channel.clone(), tokens.clone()));
        Self {
            channel,
            tokens,
            readiness,
            answers,
            limits,
            proxies: TrustedProxies::default(),
            scheme: "http",
            server: Arc::default(),
        }
    }

    /// Sets the service's host name or address, and its port.
    #[must_use]
    pub fn calling(mut self, address: String, port: u16) -> Self {
        let address = KeyValue::new(names::SERVER_ADDRESS, Arc::<str>::from(address));
        self.server = [address, KeyValue::new(names::SERVER_PORT, i64::from(port))].into();
        self
    }

    /// The routes.
    pub fn router(self) -> Router {
        telemetry::expect_answers();
        let probes = self.probes();
        // A fallback, not a route per path: repeated slashes count as one.
        Router::new().fallback(call).with_state(Arc::new(self)).merge(probes)
    }

    /// The readiness of the service and of this gateway.
    pub(crate) fn readiness(&self) -> Arc<Readiness> {
        Arc::clone(&self.readiness)
    }

    /// The routes of the liveness and readiness probes.
    pub fn probes(&self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(Arc::clone(&self.readiness))
    }

    /// Answers a request.
    async fn answer(&self, span: &Span, client: Option<IpAddr>, request: Request) -> Answered {
        let (parts, body) = request.into_parts();
        if let Some(refusal) = parts.extensions.get() {
            return request::refused_head(*refusal).into();
        }
        if request::route(parts.uri.path()).is_none() {
            return request::not_found().into();
        }
        if let Some(refused) = request::refused(&parts.method) {
            return refused.into();
        }
        let begun = Instant::now();
        let mut reader = match BodyReader::new(self.limits.body, parts.extensions.get()) {
            Ok(reader) => reader,
            Err(refused) => return Outcome::from(refused).into(),
        };
        let read = tokio::time::timeout(self.limits.deadline, reader.read(body)).await;
        let decoded = match read {
            Ok(read) => read.and_then(|body| reader.decode(&parts.headers, body)),
            // A slow client is at fault, not the service: the same answer as to a truncated body.
            Err(_) => return Outcome::from(Refused::Broken).into(),
        };
        let mut call = match decoded {
            Ok(body) => translated(&parts, client, body).await,
            Err(refused) => return Outcome::from(refused).into(),
        };
        let request = std::mem::take(&mut call.request);
        let user_id = Some(request.user_id).filter(|user_id| *user_id != 0);
        let left = self.limits.deadline.saturating_sub(begun.elapsed());
        let result = match self.request(request, &call, left) {
            Ok(request) => self.update(span, request, left).await,
            Err(status) => Err(status),
        };
        let status = result.as_ref().err();
        let info = status.map(StatusExt::get_details_error_info);
        let outcome = outcome::of(result.as_ref().map(|_| ()), &call);
        Answered {
            refused_fields: outcome::refused_fields(&call, status),
            outcome,
            by_service: info.is_none_or(|info| info.is_some()),
            code: Some(status.map_or(Code::Ok, tonic::Status::code)),
            user_id,
            retirement: result.unwrap_or_else(|status| retirement::headers(status.metadata())),
        }
    }

    /// Builds the RPC's request with its metadata.
    fn request(
        &self,
        request: UpdateUserDetailsRequest,
        call: &Translated,
        deadline: Duration,
    ) -> Result<tonic::Request<UpdateUserDetailsRequest>, tonic::Status> {
        let mut request = tonic::Request::new(request);
        request.set_timeout(deadline);
        let metadata = request.metadata_mut();
        let mut credentials: MetadataValue<_> =
            call.credentials.to_header().parse().map_err(|_| {
                tonic::Status::internal("the credentials are not a valid header value")
            })?;
        credentials.set_sensitive(true);
        metadata.insert("authorization", credentials);
        if let Some(fields) = call.unfit_fields().and_then(|paths| paths.parse().ok()) {
            metadata.insert(UNFIT_FIELDS, fields);
        }
        if let Some(identity) = self.tokens.as_ref().and_then(identity) {
            metadata.insert(DOOR_IDENTITY, identity);
        }
        Ok(request)
    }

    /// Calls the RPC in its own span. Returns the headers about the retirement of the call.
    async fn update(
        &self,
        span: &Span,
        mut request: tonic::Request<UpdateUserDetailsRequest>,
        deadline: Duration,
    ) -> Result<HeaderMap, tonic::Status> {
        let call = ClientCall::begin(span, &self.server);
        call.span.to_headers(request.metadata_mut().as_mut());
        let mut client = UserDetailsServiceClient::new(self.channel.clone());
        let result = tokio::time::timeout(deadline, client.update_user_details(request)).await;
        let result =
            result.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
        let status = result.as_ref().err();
        // After a slow body, the time left may be too short: the service is not at fault.
        let is_fair = deadline >= self.limits.deadline / 2;
        if is_fair && status.is_some_and(|status| status.get_details_error_info().is_none()) {
            telemetry::unanswered();
        }
        call.end(status.map_or(Code::Ok, tonic::Status::code));
        result.map(|response| retirement::headers(response.metadata()))
    }
}

/// Handles a legacy call.
async fn call(State(door): State<Arc<Gateway>>, request: Request) -> Response {
    let peer = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
    let client = peer.and_then(|peer| door.proxies.client(peer, request.headers()));
    let call = LegacyCall::begin(&request, door.scheme, client);
    let has_body = !request.body().is_end_stream();
    let answered = call.span.instrument(door.answer(&call.span, client, request)).await;
    call.end(&answered);
    let Answered { outcome, by_service, retirement, .. } = answered;
    let mut response = response(&outcome, door.answers);
    response.headers_mut().extend(retirement);
    // hyper closes a connection with an unread body. Without this header, the client may send its
    // next request into the closed connection.
    if has_body && !by_service && !outcome.http.is_success() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the service, here or upstream, is serving and accepts this gateway.
async fn ready(State(readiness): State<Arc<Readiness>>) -> (StatusCode, &'static str) {
    if readiness.is_ready().await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Translates a request.
async fn translated(
    parts: &Parts,
    client: Option<IpAddr>,
    body: Result<Bytes, Unreadable>,
) -> Translated {
    let query = request::query(&parts.uri, &parts.extensions);
    let (query, body): (Parameters, Result<Parameters, _>) =
        request::parameters(query, &parts.headers, body).await;
    let (method, address) = (parts.method.as_str(), client.map(|client| client.to_string()));
    let address = address.unwrap_or_default();
    match body {
        Ok(body) => translate(&query.or(body), method, &address),
        Err(unreadable) => translate(&query, method, &address).with_unreadable(unreadable),
    }
}
