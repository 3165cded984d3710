//! Metrics and log line of a call. Both end when the response is sent or dropped.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;
use tower::Service;

use super::{
    answer::Answer,
    exchange::{BoxFuture, Request, Response},
    method::Route,
    observed_call::{Call, CallSlot},
    trace::Begun,
};
use crate::{
    domain::error::Error,
    grpc::{
        call::OTHER,
        streams::{self, Ended},
    },
};

/// Measures and logs calls.
#[derive(Clone)]
pub(in crate::grpc) struct Observe<S> {
    pub(super) inner: S,
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
        let call = Call::begin(method, &request, context.clone());
        // A streaming call outlives its response headers, so its handler takes the call over.
        let slot = route.method().filter(|method| method.is_stream).map(|_| {
            let slot = CallSlot::default();
            request.extensions_mut().insert(slot.clone());
            slot
        });
        let answer = context.span.instrument(self.inner.call(request));
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
