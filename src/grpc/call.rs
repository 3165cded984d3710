//! What bounds every call, and what its answer looks like.

use std::time::Duration;

use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, metadata::MetadataMap};

pub(super) use super::layers::observe::Call;

/// What every call is bound by.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// The longest that a call takes; a watch goes on.
    pub deadline: Duration,
    /// How often one who watches hears of it that there is nothing to tell.
    pub heartbeat: Duration,
    /// The largest body that the door reads, in bytes.
    pub largest_body: usize,
    /// The largest message, in bytes, either way and when it is not compressed.
    pub largest_message: usize,
    /// How many calls may be under way at once.
    pub max_calls: usize,
    /// How many bytes messages and answers may take in memory.
    pub message_memory: usize,
    /// Ends those who watch.
    pub stop: CancellationToken,
}

/// The least answer that is compressed, in bytes: a smaller one fits in a packet as it is.
const MIN_COMPRESSED_BYTES: usize = 1024;

/// The response of a call.
pub(super) fn respond<T: Message>(metadata: &MetadataMap, answer: T) -> Response<T> {
    let may_compress = metadata.contains_key("grpc-accept-encoding");
    let is_small = may_compress && answer.encoded_len() < MIN_COMPRESSED_BYTES;
    let mut response = Response::new(answer);
    if is_small {
        response.disable_compression();
    }
    response
}

/// Stands for a method that did not answer, as the semantic conventions have it: anybody may make
/// up names.
pub(super) const OTHER: &str = "_OTHER";

/// The code and the outcome of a call that is dropped before its end: its caller does not wait for
/// its answer, or it has panicked.
pub(super) fn dropped() -> (Code, &'static str) {
    if std::thread::panicking() {
        (Code::Internal, "INTERNAL")
    } else {
        (Code::Cancelled, "CANCELLED")
    }
}

/// Whether a status is an error of the server, as the semantic conventions have it.
pub(super) fn is_servers(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}
