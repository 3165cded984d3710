//! A call in flight, with its metrics, its log line and its span.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::exchange::{Request, Response};
use crate::{
    credentials::LegacyCredentials,
    domain::{
        call_context::CallContext,
        error::{Error, chain},
        update::EntryPoint,
    },
    grpc::errors,
    proto::code_name,
    server::Peer,
    telemetry::{instruments::instruments, logs::milliseconds, metrics, names},
};

/// A call in flight: its metrics, its log line and its span. Dropping it before its end records it
/// as cancelled.
pub(in crate::grpc) struct Call {
    method: &'static str,
    entry_point: EntryPoint,
    /// The address of the connection; `None` for a call in this process.
    peer: Option<IpAddr>,
    begun: Instant,
    context: CallContext,
    /// Whether the stream is open.
    is_open: bool,
    has_ended: bool,
}

impl Call {
    /// Begins the call of a request.
    pub(super) fn begin(method: &'static str, request: &Request, context: CallContext) -> Self {
        if let Some(instruments) = instruments() {
            instruments.call_begins();
        }
        let entry_point = entry_point(request.headers());
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        let (begun, is_open, has_ended) = (Instant::now(), false, false);
        Self { method, entry_point, peer, begun, context, is_open, has_ended }
    }

    /// The stream is open: the call no longer counts as in flight.
    pub(in crate::grpc) fn open(&mut self) {
        self.leave();
        self.is_open = true;
    }

    fn leave(&self) {
        if let (false, Some(instruments)) = (self.is_open, instruments()) {
            instruments.call_ends();
        }
    }

    /// Ends the call.
    pub(in crate::grpc) fn end(mut self, error: Option<&Error>) {
        let reason = error.map_or("OK", errors::reason);
        self.end_as(errors::code(error), reason, error);
    }

    /// Ends the call with a headers-only response.
    pub(super) fn end_with(mut self, response: &Response) {
        let status = response.extensions().get::<Status>();
        let source = status.and_then(std::error::Error::source);
        if let Some(error) = source.and_then(<dyn std::error::Error>::downcast_ref) {
            return self.end(Some(error));
        }
        match (response.status(), status.map(Status::code)) {
            (StatusCode::OK, None | Some(Code::Ok)) => self.end(None),
            (StatusCode::OK, Some(code)) => self.end_as(code, code_name(code), None),
            // Not a gRPC call.
            _ => self.end_as(Code::InvalidArgument, "NOT_GRPC", None),
        }
    }

    fn end_as(&mut self, code: Code, outcome: &'static str, error: Option<&Error>) {
        let took = self.begun.elapsed();
        self.has_ended = true;
        self.leave();
        if let Some(instruments) = instruments() {
            instruments.call(self.method, code_name(code), is_servers(code), took);
            if code != Code::Ok {
                instruments.call_failed(self.method, outcome);
            }
            error.and_then(errors::shed).into_iter().for_each(|reason| instruments.shed(1, reason));
        }
        self.log(code, outcome, error, took);
    }

    /// Writes the log line, and ends the span.
    fn log(&self, code: Code, outcome: &'static str, error: Option<&Error>, took: Duration) {
        let code_name = code_name(code);
        let CallContext { span, record, .. } = &self.context;
        span.set_attributes(|| {
            [
                KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, code_name),
                KeyValue::new(names::OUTCOME, outcome),
            ]
        });
        let (identity, rule) = (record.identity(), error.and_then(Error::rule));
        for (name, value) in [(names::IDENTITY, identity), (names::RULE, rule)] {
            if let Some(value) = value {
                span.set_attributes(|| [KeyValue::new(name, value.to_owned())]);
            }
        }
        if is_servers(code) {
            span.set_error(|| code_name.into());
        }
        let _entered = span.enter();
        macro_rules! line {
            ($level:ident $($cause:tt)*) => {
                tracing::$level!(
                    trace_id = span.trace_id().map(display),
                    door = self.entry_point.as_str(),
                    { names::CLIENT_ADDRESS } = record.client().or(self.peer).map(display),
                    identity,
                    actor_id = record.account(),
                    service = record.service(),
                    user_id = record.user_id(),
                    rpc.method = self.method,
                    rpc.response.status_code = code_name,
                    outcome,
                    rule,
                    refused_fields = error.and_then(errors::refused_fields),
                    milliseconds = milliseconds(took)
                    $($cause)*,
                    "call"
                )
            };
        }
        match error {
            Some(Error::Internal(cause)) => line!(error, cause = %chain(&**cause)),
            // Streams end like this when the service stops or the caller's rights change.
            Some(Error::Unavailable(cause)) if self.is_open => {
                line!(info, cause = %chain(&**cause));
            }
            Some(Error::Unavailable(cause)) => line!(warn, cause = %chain(&**cause)),
            _ => line!(info),
        }
        metrics::exemplar(names::RPC_SERVER_CALL_DURATION, span, took, || {
            vec![
                (names::RPC_METHOD, self.method.to_owned()),
                (names::RPC_RESPONSE_STATUS_CODE, code_name.to_owned()),
            ]
        });
        span.end();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.has_ended {
            let (code, outcome) = dropped();
            self.end_as(code, outcome, None);
        }
    }
}

/// The entry point that the headers claim. Authentication verifies the claim later.
fn entry_point(headers: &HeaderMap) -> EntryPoint {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    if authorization.is_some_and(LegacyCredentials::are_in) {
        EntryPoint::Legacy
    } else {
        EntryPoint::Grpc
    }
}

/// Code and outcome of a call that is dropped before its end: the caller stopped waiting, or the
/// call panicked.
fn dropped() -> (Code, &'static str) {
    if std::thread::panicking() {
        (Code::Internal, "INTERNAL")
    } else {
        (Code::Cancelled, "CANCELLED")
    }
}

/// Whether a status is a server error in the OpenTelemetry semantic conventions.
fn is_servers(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// Hands a call over to the handler of its stream.
#[derive(Clone, Default)]
pub(in crate::grpc) struct CallSlot(Arc<Mutex<Option<Call>>>);

impl CallSlot {
    pub(super) fn put(&self, call: Call) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
    }

    /// Takes the call; `None` if it was taken before.
    pub(in crate::grpc) fn take(&self) -> Option<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
