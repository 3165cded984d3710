//! Options and responses of calls.

use std::time::Duration;

use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Response, metadata::MetadataMap};

/// Limits and intervals of calls.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// Maximum duration of a call, except for subscriptions.
    pub deadline: Duration,
    /// Heartbeat interval of an idle subscription.
    pub heartbeat: Duration,
    /// The gateway's body limit, in bytes.
    pub largest_body: usize,
    /// Maximum uncompressed size of a message in both directions, in bytes.
    pub largest_message: usize,
    /// Maximum calls in flight.
    pub max_calls: usize,
    /// Memory budget of messages and responses, in bytes.
    pub message_memory: usize,
    /// Ends all subscriptions.
    pub stop: CancellationToken,
}

/// Minimum size of a compressed response, in bytes: a smaller response fits in one packet.
const MIN_COMPRESSED_BYTES: usize = 1024;

/// Builds the response of a call.
pub(super) fn respond<T: Message>(metadata: &MetadataMap, answer: T) -> Response<T> {
    let may_compress = metadata.contains_key("grpc-accept-encoding");
    let is_small = may_compress && answer.encoded_len() < MIN_COMPRESSED_BYTES;
    let mut response = Response::new(answer);
    if is_small {
        response.disable_compression();
    }
    response
}

/// Handles a unary call: splits the request, calls `$call`, and builds the response.
macro_rules! unary {
    ($self:ident.$call:ident($request:ident)) => {{
        let (metadata, extensions, request) = $request.into_parts();
        let answer =
            $self.$call(&extensions, request).await.map_err($crate::grpc::errors::to_status)?;
        Ok($crate::grpc::call::respond(&metadata, answer))
    }};
}
pub(super) use unary;

/// The name of unknown methods in the OpenTelemetry semantic conventions: a client could invent any
/// number of names.
pub(super) const OTHER: &str = "_OTHER";
