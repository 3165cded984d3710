//! The body of an answer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::admission::AdmissionPermit;
use crate::{
    budget::{BytesPermit, ConnectionBudget},
    domain::error::Error,
    grpc::errors,
};

/// The most bytes that are handed to HTTP/2 at once: it takes over what it is given, so the rest
/// waits here, where a deadline ends it.
const MAX_FRAME_BYTES: usize = 16 * 1024;

/// The body of an answer.
#[derive(Debug, Default)]
pub(in crate::grpc) enum Answer {
    /// Nothing: the status is in the headers.
    #[default]
    Empty,
    /// One message, and the trailers.
    Message {
        /// What is left to send of the message.
        data: Bytes,
        /// The trailers, until they are sent.
        trailers: Option<HeaderMap>,
        /// The call's place among the calls under way.
        permit: Option<AdmissionPermit>,
    },
    /// A stream of messages.
    Stream {
        /// The stream.
        body: Body,
        /// The budget of its connection.
        budget: Option<Arc<ConnectionBudget>>,
        /// Whether it was ended for want of memory.
        ended: bool,
        /// The call's place among the calls under way.
        permit: Option<AdmissionPermit>,
    },
}

impl Answer {
    /// One message.
    pub(in crate::grpc) fn message(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self::Message { data, trailers, permit: None }
    }

    /// A stream.
    pub(in crate::grpc) fn stream(body: Body, budget: Option<Arc<ConnectionBudget>>) -> Self {
        Self::Stream { body, budget, ended: false, permit: None }
    }

    /// Keeps the call's place until the answer is sent.
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

/// Bytes that count in a budget until HTTP/2 has written them; none where there is no room.
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

/// The trailers of a stream that is ended for want of memory.
fn overloaded() -> HeaderMap {
    let response = errors::to_status(Error::Overloaded).into_http::<()>();
    let mut trailers = response.into_parts().0.headers;
    trailers.remove(http::header::CONTENT_TYPE);
    trailers
}
