//! Reads the request message and collects the response, within the byte budgets.
//!
//! tonic gets whole, decompressed messages with counted elements, and its responses leave this
//! layer encoded. All sizes are known, so no call exceeds its budget.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;

use super::{
    answer::{Answer, held},
    call_limits::ConnectionShare,
    elements::malformed,
    exchange::{BoxFuture, Request, Response, refuse},
    method::{Infrastructure, Method, Route},
    request_message::{Message, MessageReader},
    trace::Begun,
};
use crate::{
    budget::ConnectionBudget,
    domain::{call_context::CallContext, error::Error, update::MAX_BATCH_TEXT_BYTES},
    grpc::{
        streams::Ended,
        workers::{OnWorker, Workers},
    },
};

/// Maximum message size of health checks and reflection, which need no authentication.
pub(crate) const MAX_PUBLIC_MESSAGE_BYTES: usize = 16 * 1024;
/// Calls with larger messages run on a worker.
const LARGE_MESSAGE_BYTES: usize = 128 * 1024;
/// Estimated memory of an update in a batch, in bytes: one comment of maximum size.
const BATCH_ITEM_BYTES: usize = 64 * 1024;

/// Reads messages and collects responses.
#[derive(Clone)]
pub(in crate::grpc) struct Messages<S> {
    pub(super) inner: S,
    pub(super) max_message: usize,
    pub(super) workers: Arc<Workers>,
}

impl Service<Request> for Messages<Routes> {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Response>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> BoxFuture<Response> {
        let this = self.clone();
        Box::pin(async move { Ok(this.exchange(request).await.unwrap_or_else(refuse)) })
    }
}

impl Messages<Routes> {
    async fn exchange(self, request: Request) -> Result<Response, Error> {
        let share = request.extensions().get::<Arc<ConnectionShare>>();
        let budget = share.map(|share| Arc::clone(&share.budget));
        let begun = request.extensions().get::<Begun>();
        let Begun { route, context } = begun.cloned().ok_or(Error::UnknownMethod)?;
        let method = match route {
            Route::Api(method) => method,
            Route::Infrastructure(kind) => {
                return self.infrastructure(request, kind, &context, budget).await;
            }
            Route::Unknown => return Err(Error::UnknownMethod),
        };
        let span = &context.span;
        let reader = MessageReader {
            max_message: self.max_message,
            workers: &self.workers,
            span,
            method: Some(method),
            budget: budget.as_ref(),
        };
        let (mut parts, message) = reader.receive(request).await?;
        let is_large = message.frame.len() > LARGE_MESSAGE_BYTES;
        if is_large {
            parts.extensions.insert(OnWorker);
        }
        let mut inner = self.inner;
        let batch = budget.clone().filter(|_| method.is_batch);
        let call = async move {
            let elements = method.elements.check(message.content())?;
            let Message { frame, permit } = message;
            let request = Request::from_parts(parts, Body::new(Full::new(frame)));
            // Reserve memory for the users and the response now: a stored batch must not fail.
            let estimate = (elements * BATCH_ITEM_BYTES).min(MAX_BATCH_TEXT_BYTES);
            let room = batch.map(|budget| budget.try_acquire(estimate).ok_or(Error::Overloaded));
            let room = room.transpose()?;
            let response = answer(routed(&mut inner, request).await, method).await;
            drop(permit);
            Ok((response, room))
        };
        let (mut response, room) = self.workers.run_if(span, is_large, call).await?;
        match (response.body_mut(), budget) {
            (Answer::Message { data, .. }, Some(budget)) => {
                // The response counts in the budget until it is sent.
                let room = room.or_else(|| budget.try_acquire(0));
                *data = held(std::mem::take(data), room).ok_or(Error::Overloaded)?;
            }
            (Answer::Stream { budget, .. }, own) => *budget = own,
            (Answer::Message { .. } | Answer::Empty, _) => {}
        }
        Ok(response)
    }

    /// Forwards a health check or a reflection call, which need no authentication.
    async fn infrastructure(
        mut self,
        request: Request,
        kind: Infrastructure,
        context: &CallContext,
        budget: Option<Arc<ConnectionBudget>>,
    ) -> Result<Response, Error> {
        if kind == Infrastructure::Reflection {
            // tonic limits these messages and reads them in its own task. At the deadline, the
            // request stream ends. Then the response has the usual send timeout.
            let deadline = context.deadline.unwrap_or_else(Instant::now);
            let ended = CancellationToken::new();
            let at_deadline = ended.clone();
            tokio::spawn(async move {
                sleep_until(deadline).await;
                at_deadline.cancel();
            });
            let until_ended = ended.clone().cancelled_owned();
            let request = request.map(|body| {
                Body::new(StreamBody::new(BodyStream::new(body).take_until(until_ended)))
            });
            let mut response = routed(&mut self.inner, request).await;
            response.extensions_mut().insert(Ended(ended));
            return Ok(response.map(|body| Answer::stream(body, budget)));
        }
        let reader = MessageReader {
            max_message: MAX_PUBLIC_MESSAGE_BYTES,
            workers: &self.workers,
            span: &context.span,
            method: None,
            budget: None,
        };
        let (parts, message) = reader.receive(request).await?;
        let request = Request::from_parts(parts, Body::new(Full::new(message.frame)));
        let response = routed(&mut self.inner, request).await;
        match kind {
            Infrastructure::Check => one_message(response).await,
            _ => Ok(response.map(|body| Answer::stream(body, budget))),
        }
    }
}

async fn routed(routes: &mut Routes, request: Request) -> http::Response<Body> {
    routes.call(request).await.unwrap_or_else(|never| match never {})
}

/// The response of a method. A single message is encoded here, which frees its source data.
async fn answer(response: http::Response<Body>, method: &Method) -> Response {
    let (parts, body) = response.into_parts();
    if let Some(code) = parts.headers.get(Status::GRPC_STATUS) {
        let code = Code::from_bytes(code.as_bytes());
        if parts.headers.contains_key(Status::GRPC_STATUS_DETAILS) || code == Code::Ok {
            return Response::from_parts(parts, Answer::Empty);
        }
        // tonic's own status: the message could not be decoded.
        return refuse(malformed());
    }
    if method.is_stream {
        return Response::from_parts(parts, Answer::stream(body, None));
    }
    let response = http::Response::from_parts(parts, body);
    one_message(response).await.unwrap_or_else(refuse)
}

/// A unary response. Sending it has a deadline, unlike a stream.
async fn one_message(response: http::Response<Body>) -> Result<Response, Error> {
    let (parts, body) = response.into_parts();
    if parts.headers.contains_key(Status::GRPC_STATUS) {
        return Ok(Response::from_parts(parts, Answer::Empty));
    }
    let (data, trailers) = encoded(body).await.map_err(|status| Error::Internal(status.into()))?;
    Ok(Response::from_parts(parts, Answer::message(data, trailers)))
}

/// The single message of a response, which tonic encodes in one frame, and its trailers.
async fn encoded(mut body: Body) -> Result<(Bytes, Option<HeaderMap>), Status> {
    let (mut message, mut trailers) = (Bytes::new(), None);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if message.is_empty() => message = data,
            Ok(more) => message = [message, more].concat().into(),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((message, trailers))
}
