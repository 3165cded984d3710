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
use http::{HeaderMap, request::Parts};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service;

use super::{
    Answer, BoxFuture, Request, Response, Workers,
    admission::ConnectionShare,
    answer::held,
    decompress::{Encoding, SMALL_BYTES},
    elements::malformed,
    layer,
    method::{Infrastructure, Method, Route},
    refuse,
    trace::Begun,
    workers::OnWorker,
};
use crate::{
    budget::{BytesPermit, ConnectionBudget},
    domain::{call_context::CallContext, error::Error, update::MAX_BATCH_TEXT_BYTES},
    grpc::streams::Ended,
    trace::Span,
};

/// The gRPC message prefix: a compression flag (1 byte) and the length (4 bytes).
const PREFIX_BYTES: usize = 5;
/// Maximum message size of health checks and reflection, which need no authentication.
pub(crate) const MAX_PUBLIC_MESSAGE_BYTES: usize = 16 * 1024;
/// Calls with larger messages run on a worker.
const LARGE_MESSAGE_BYTES: usize = 128 * 1024;
/// Estimated memory of an update in a batch, in bytes: one comment of maximum size.
const BATCH_ITEM_BYTES: usize = 64 * 1024;
/// The header with the compression algorithm of a message.
const GRPC_ENCODING: &str = "grpc-encoding";

layer! {
    /// Reads messages and collects responses.
    MessageLayer { max_message: usize, workers: Arc<Workers> } => Messages
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
        let received = self.receive(request, span, Some(method), budget.as_ref());
        let (mut parts, message) = received.await?;
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
        self.max_message = MAX_PUBLIC_MESSAGE_BYTES;
        let (parts, message) = self.receive(request, &context.span, None, None).await?;
        let request = Request::from_parts(parts, Body::new(Full::new(message.frame)));
        let response = routed(&mut self.inner, request).await;
        match kind {
            Infrastructure::Check => one_message(response).await,
            _ => Ok(response.map(|body| Answer::stream(body, budget))),
        }
    }

    /// Reads and decompresses a message.
    async fn receive(
        &self,
        request: Request,
        span: &Span,
        method: Option<&'static Method>,
        budget: Option<&Arc<ConnectionBudget>>,
    ) -> Result<(Parts, Message), Error> {
        let (mut parts, body) = request.into_parts();
        let encoding = parts.headers.remove(GRPC_ENCODING);
        let message = read(body, self.max_message, budget).await?;
        let message = match (message.is_compressed(), encoding) {
            (false, _) => message,
            (true, None) => return Err(malformed()),
            (true, Some(name)) => {
                let encoding = Encoding::of(name.as_bytes()).ok_or(Error::UnknownEncoding)?;
                self.decompress(message, encoding, span, method).await?
            }
        };
        Ok((parts, message))
    }

    /// Decompresses a message, on a worker if it is large.
    async fn decompress(
        &self,
        message: Message,
        encoding: Encoding,
        span: &Span,
        method: Option<&'static Method>,
    ) -> Result<Message, Error> {
        let Message { frame, mut permit } = message;
        let compressed = frame.slice(PREFIX_BYTES..);
        let small = if compressed.len() <= SMALL_BYTES {
            encoding.decompress_small(&compressed)
        } else {
            None
        };
        let content = match small {
            Some(content) if content.len() <= self.max_message => content,
            Some(_) => return Err(too_large()),
            None => {
                // The decompressed size is unknown: reserve the maximum.
                let room = |permit: &mut BytesPermit| permit.try_grow(self.max_message);
                if !permit.as_mut().is_none_or(room) {
                    return Err(Error::Overloaded);
                }
                let max = self.max_message;
                // Stop early at a message with too many elements: a decompression bomb.
                let goes_on = move |beginning: &[u8]| {
                    method.is_none_or(|method| !method.elements.are_exceeded_by(beginning))
                };
                let decompress = async move { encoding.decompress(&compressed, max, goes_on) };
                let content = self.workers.run(span, decompress).await?;
                content.map_err(|_| malformed())?.ok_or_else(too_large)?
            }
        };
        let length = u32::try_from(content.len()).map_err(|_| too_large())?;
        let mut frame = Vec::with_capacity(PREFIX_BYTES + content.len());
        frame.push(0);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&content);
        if permit.as_mut().is_some_and(|permit| !permit.try_resize(frame.len())) {
            return Err(Error::Overloaded);
        }
        Ok(Message { frame: frame.into(), permit })
    }
}

async fn routed(routes: &mut Routes, request: Request) -> http::Response<Body> {
    routes.call(request).await.unwrap_or_else(|never| match never {})
}

/// A message with its prefix, and the permit for its bytes in the connection's budget.
struct Message {
    frame: Bytes,
    permit: Option<BytesPermit>,
}

impl Message {
    fn is_compressed(&self) -> bool {
        self.frame.first().is_some_and(|flag| *flag == 1)
    }

    fn content(&self) -> &[u8] {
        self.frame.get(PREFIX_BYTES..).unwrap_or_default()
    }
}

/// Reads the one message of a request.
async fn read(
    mut body: Body,
    max_message: usize,
    budget: Option<&Arc<ConnectionBudget>>,
) -> Result<Message, Error> {
    let mut permit = match budget {
        Some(budget) => Some(budget.try_acquire(0).ok_or(Error::Overloaded)?),
        None => None,
    };
    // Most messages arrive in one frame, which is not copied.
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut expected = None;
    while let Some(frame) = body.frame().await {
        // The client reset the stream, or its connection ended: nobody reads the response.
        let Ok(data) = frame.map_err(|_| ()).and_then(|frame| frame.into_data().map_err(|_| ()))
        else {
            break;
        };
        if data.is_empty() {
            continue;
        }
        let length = first.len() + rest.len() + data.len();
        if rest.is_empty() && first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest = Vec::from(std::mem::take(&mut first));
            }
            if length > rest.capacity() {
                // Double the capacity, but never beyond the announced length.
                let wanted = (2 * rest.capacity()).min(expected.unwrap_or(length)).max(length);
                if !grow(&mut permit, wanted) {
                    return Err(Error::Overloaded);
                }
                rest.reserve_exact(wanted - rest.len());
            }
            rest.extend_from_slice(&data);
        }
        if !grow(&mut permit, length.max(rest.capacity())) {
            return Err(Error::Overloaded);
        }
        if expected.is_none() {
            let read = if rest.is_empty() { &first[..] } else { &rest[..] };
            expected = expected_length(read, max_message)?;
        }
        if expected.is_some_and(|expected| length > expected) {
            return Err(malformed());
        }
    }
    let frame = if rest.is_empty() { first } else { Bytes::from(rest) };
    if expected != Some(frame.len()) {
        let problem = "is missing or ends early".to_owned();
        return Err(Error::InvalidRequest { field: "message", problem });
    }
    Ok(Message { frame, permit })
}

fn grow(permit: &mut Option<BytesPermit>, bytes: usize) -> bool {
    permit.as_mut().is_none_or(|permit| permit.try_resize(bytes))
}

/// The length of a message with its prefix; `None` until the prefix is complete.
fn expected_length(read: &[u8], max_message: usize) -> Result<Option<usize>, Error> {
    let Some((prefix, _)) = read.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let [flag, length @ ..] = *prefix;
    if flag > 1 {
        return Err(malformed());
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max_message {
        return Err(too_large());
    }
    Ok(Some(PREFIX_BYTES + length))
}

fn too_large() -> Error {
    let problem = "is larger than grpc.message_limit allows".to_owned();
    Error::InvalidRequest { field: "message", problem }
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
