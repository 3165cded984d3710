//! Response bodies.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::call_limits::AdmissionPermit;
use crate::{
    budget::{BytesPermit, ConnectionBudget},
    domain::error::Error,
    grpc::errors,
};

/// Maximum bytes of a frame. HTTP/2 buffers the frames that it gets, so the rest of a message waits
/// here, where the deadline can end it.
const MAX_FRAME_BYTES: usize = 16 * 1024;

/// The body of a response.
#[derive(Debug, Default)]
pub(in crate::grpc) enum Answer {
    /// Nothing: the status is in the headers.
    #[default]
    Empty,
    /// One message, and the trailers.
    Message {
        /// The unsent rest of the message.
        data: Bytes,
        /// The trailers, until they are sent.
        trailers: Option<HeaderMap>,
        /// The admission permit of the call.
        permit: Option<AdmissionPermit>,
    },
    /// A stream of messages.
    Stream {
        body: Body,
        /// The budget of the connection.
        budget: Option<Arc<ConnectionBudget>>,
        /// Whether the stream ended for lack of memory.
        ended: bool,
        /// The admission permit of the call.
        permit: Option<AdmissionPermit>,
    },
}

impl Answer {
    /// A response of one message.
    pub(in crate::grpc) fn message(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self::Message { data, trailers, permit: None }
    }

    /// A streaming response.
    pub(in crate::grpc) fn stream(body: Body, budget: Option<Arc<ConnectionBudget>>) -> Self {
        Self::Stream { body, budget, ended: false, permit: None }
    }

    /// Keeps the call's permit until the response is sent.
    pub(in crate::grpc) fn keep(&mut self, place: AdmissionPermit) {
        if let Self::Message { permit, .. } | Self::Stream { permit, .. } = self {
            *permit = Some(place);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Message { data, trailers, .. } => Poll::Ready(if data.is_empty() {
                trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))
            } else {
                Some(Ok(Frame::data(data.split_to(data.len().min(MAX_FRAME_BYTES)))))
            }),
            Self::Stream { ended: true, .. } => Poll::Ready(None),
            Self::Stream { body, budget, ended, .. } => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(context));
                let (frame, budget) = match (frame, budget) {
                    (Some(Ok(frame)), Some(budget)) => (frame, budget),
                    (frame, _) => return Poll::Ready(frame),
                };
                Poll::Ready(Some(Ok(match frame.into_data() {
                    Ok(data) => match held(data, budget.try_acquire(0)) {
                        Some(data) => Frame::data(data),
                        None => {
                            *ended = true;
                            Frame::trailers(overloaded())
                        }
                    },
                    Err(frame) => frame,
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Stream { ended: true, .. } => true,
            Self::Message { data, trailers, .. } => data.is_empty() && trailers.is_none(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Message { .. } => SizeHint::default(),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}

/// Bytes that count in the budget until HTTP/2 writes them; `None` if the budget has no room.
pub(in crate::grpc) fn held(data: Bytes, permit: Option<BytesPermit>) -> Option<Bytes> {
    struct Held {
        data: Bytes,
        _permit: BytesPermit,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.data
        }
    }
    let mut permit = permit?;
    permit.try_resize(data.len()).then(|| Bytes::from_owner(Held { data, _permit: permit }))
}

/// The trailers of a stream that ends for lack of memory.
fn overloaded() -> HeaderMap {
    let response = errors::to_status(Error::Overloaded).into_http::<()>();
    let mut trailers = response.into_parts().0.headers;
    trailers.remove(http::header::CONTENT_TYPE);
    trailers
}
