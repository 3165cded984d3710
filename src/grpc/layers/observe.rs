//! Metrics and log line of a call. Both end when the response is sent or dropped.

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, Status};
use tower::Service;

use super::{Answer, BoxFuture, Request, Response, method::Route, trace::Begun};
use crate::{
    credentials::LegacyCredentials,
    domain::{
        call_context::CallContext,
        error::{Error, chain},
        update::EntryPoint,
    },
    grpc::{
        call::{OTHER, dropped, is_servers},
        errors,
        metered::Metered,
        streams::{self, Ended},
    },
    proto::code_name,
    server::Peer,
    telemetry::{logs::milliseconds, metrics, names},
};

/// Measures and logs calls.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct ObserveLayer;

impl<S> tower::Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner }
    }
}

/// The service of [`ObserveLayer`].
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Observe<S> {
    inner: S,
}

impl<S> Service<Request> for Observe<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<ObservedAnswer>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let begun = request.extensions().get::<Begun>().cloned();
        let (route, context) =
            begun.map_or_else(Default::default, |begun| (begun.route, begun.context));
        let method = match route {
            Route::Api(method) => method.name,
            Route::Unknown => OTHER,
            Route::Infrastructure { .. } => {
                let answer = self.inner.call(request);
                return Box::pin(async move {
                    Ok(answer.await?.map(|answer| ObservedAnswer::new(answer, None)))
                });
            }
        };
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
        let line = Line::new(method, entry_point(request.headers()), peer, context);
        let call = Call { metered: Metered::begin(method, line.begun), line };
        // A streaming call outlives its response headers, so its handler takes the call over.
        let slot = route.method().filter(|method| method.is_stream).map(|_| {
            let slot = CallSlot::default();
            request.extensions_mut().insert(slot.clone());
            slot
        });
        let answer = call.line.context.span.instrument(self.inner.call(request));
        Box::pin(async move {
            if let Some(slot) = &slot {
                slot.put(call);
                let response = answer.await?;
                return Ok(observed(response, slot.take()));
            }
            let response = answer.await?;
            Ok(observed(response, Some(call)))
        })
    }
}

/// Wraps a response so that sending it ends the call.
fn observed(response: Response, call: Option<Call>) -> http::Response<ObservedAnswer> {
    let call = match call {
        // Nothing follows the headers: the call ends now.
        Some(call) if matches!(response.body(), Answer::Empty) => {
            call.end_with(&response);
            None
        }
        call => call,
    };
    response.map(|answer| ObservedAnswer::new(answer, call))
}

/// Hands a call over to the handler of its stream.
#[derive(Clone, Default)]
pub(in crate::grpc) struct CallSlot(Arc<Mutex<Option<Call>>>);

impl CallSlot {
    fn put(&self, call: Call) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
    }

    /// Takes the call; `None` if it was taken before.
    pub(in crate::grpc) fn take(&self) -> Option<Call> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The body of a response on its way to the client.
pub(in crate::grpc) struct ObservedAnswer {
    answer: Answer,
    /// The call, until the response is sent.
    call: Option<Call>,
    /// When the response must be sent.
    deadline: Option<Instant>,
    under_way: Option<TaskTrackerToken>,
}

impl ObservedAnswer {
    fn new(answer: Answer, call: Option<Call>) -> Self {
        Self { answer, call, deadline: None, under_way: None }
    }

    /// Sets the send timeout: `least` for a small message and for the rest of an `ended` stream. A
    /// message counts as in flight until it is sent.
    pub(in crate::grpc) fn send_within(
        &mut self,
        least: Duration,
        under_way: TaskTrackerToken,
        ended: Option<Ended>,
    ) {
        match (&self.answer, ended) {
            (Answer::Message { data, .. }, _) => {
                self.under_way = Some(under_way);
                let deadline = Instant::now() + streams::send_timeout(least, data.len());
                self.deadline = Some(deadline);
                streams::end_at(deadline);
            }
            (Answer::Stream { .. }, Some(ended)) => streams::end_after(ended, least),
            (Answer::Stream { .. } | Answer::Empty, _) => {}
        }
    }

    fn sent(&mut self) {
        self.under_way = None;
        if let Some(call) = self.call.take() {
            call.end(None);
        }
    }
}

impl http_body::Body for ObservedAnswer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.answer).poll_frame(context));
        if frame.is_none() || self.answer.is_end_stream() {
            self.sent();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

impl Drop for ObservedAnswer {
    fn drop(&mut self) {
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if let Some(call) = self.call.take().filter(|_| is_late) {
            call.end(Some(&Error::AnswerNotRead));
        }
    }
}

/// A call in flight. Dropping it before its end records it as cancelled.
pub(in crate::grpc) struct Call {
    metered: Metered,
    line: Line,
}

impl Call {
    /// The stream is open: the call no longer counts as in flight.
    pub(in crate::grpc) fn open(&mut self) {
        self.metered.opened();
        self.line.is_open = true;
    }

    /// Ends the call.
    pub(in crate::grpc) fn end(self, error: Option<&Error>) {
        let reason = error.map_or("OK", errors::reason);
        self.end_as(errors::code(error), reason, error);
    }

    /// Ends the call with a headers-only response.
    fn end_with(self, response: &Response) {
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

    fn end_as(mut self, code: Code, outcome: &'static str, error: Option<&Error>) {
        let took = self.line.begun.elapsed();
        let failure = (code != Code::Ok).then_some(outcome);
        self.metered.end(code, failure, error.and_then(errors::shed), took);
        self.line.ends(outcome, code, error, took);
    }
}

/// The log line and the span of a call. A dropped call gets both, too.
struct Line {
    method: &'static str,
    entry_point: EntryPoint,
    /// The address of the connection; `None` for a call in this process.
    peer: Option<IpAddr>,
    begun: Instant,
    context: CallContext,
    /// Whether the stream is open.
    is_open: bool,
    written: bool,
}

impl Line {
    fn new(
        method: &'static str,
        entry_point: EntryPoint,
        peer: Option<IpAddr>,
        context: CallContext,
    ) -> Self {
        let begun = Instant::now();
        Self { method, entry_point, peer, begun, context, is_open: false, written: false }
    }

    fn ends(&mut self, outcome: &'static str, code: Code, error: Option<&Error>, took: Duration) {
        self.written = true;
        let code_name = code_name(code);
        let CallContext { span, record, .. } = &self.context;
        span.set_attributes(|| {
            [
                KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, code_name),
                KeyValue::new(names::OUTCOME, outcome),
            ]
        });
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
                    identity = record.identity(),
                    actor_id = record.account(),
                    service = record.service(),
                    user_id = record.user_id(),
                    rpc.method = self.method,
                    rpc.response.status_code = code_name,
                    outcome,
                    rule = error.and_then(Error::rule),
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

impl Drop for Line {
    fn drop(&mut self) {
        if !self.written {
            let (code, outcome) = dropped();
            self.ends(outcome, code, None, self.begun.elapsed());
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
