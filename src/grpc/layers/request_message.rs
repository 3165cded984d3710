//! Reads, limits and decompresses the message of a request.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt;
use tonic::body::Body;

use super::{
    decompress::{Encoding, SMALL_BYTES},
    elements::malformed,
    exchange::Request,
    method::Method,
};
use crate::{
    budget::{BytesPermit, ConnectionBudget},
    domain::error::Error,
    grpc::{errors::invalid_request, workers::Workers},
    trace::Span,
};

/// The gRPC message prefix: a compression flag (1 byte) and the length (4 bytes).
const PREFIX_BYTES: usize = 5;
/// The header with the compression algorithm of a message.
const GRPC_ENCODING: &str = "grpc-encoding";

/// A message with its prefix, and the permit for its bytes in the connection's budget.
pub(super) struct Message {
    pub(super) frame: Bytes,
    pub(super) permit: Option<BytesPermit>,
}

impl Message {
    fn is_compressed(&self) -> bool {
        self.frame.first().is_some_and(|flag| *flag == 1)
    }

    pub(super) fn content(&self) -> &[u8] {
        self.frame.get(PREFIX_BYTES..).unwrap_or_default()
    }
}

/// Reads the message of one request.
pub(super) struct MessageReader<'a> {
    pub(super) max_message: usize,
    pub(super) workers: &'a Workers,
    pub(super) span: &'a Span,
    /// The method whose elements are limited.
    pub(super) method: Option<&'static Method>,
    /// The budget of the connection.
    pub(super) budget: Option<&'a Arc<ConnectionBudget>>,
}

impl MessageReader<'_> {
    /// Reads and decompresses a message.
    pub(super) async fn receive(&self, request: Request) -> Result<(Parts, Message), Error> {
        let (mut parts, body) = request.into_parts();
        let encoding = parts.headers.remove(GRPC_ENCODING);
        let message = self.read(body).await?;
        let message = match (message.is_compressed(), encoding) {
            (false, _) => message,
            (true, None) => return Err(malformed()),
            (true, Some(name)) => {
                let encoding = Encoding::of(name.as_bytes()).ok_or(Error::UnknownEncoding)?;
                self.decompress(message, encoding).await?
            }
        };
        Ok((parts, message))
    }

    /// Decompresses a message, on a worker if it is large.
    async fn decompress(&self, message: Message, encoding: Encoding) -> Result<Message, Error> {
        let Message { frame, mut permit } = message;
        let compressed = frame.slice(PREFIX_BYTES..);
        let is_small = compressed.len() <= SMALL_BYTES;
        let small = is_small.then(|| encoding.decompress_small(&compressed)).flatten();
        let content = match small {
            Some(content) if content.len() <= self.max_message => content,
            Some(_) => return Err(too_large()),
            None => {
                // The decompressed size is unknown: reserve the maximum.
                if permit.as_mut().is_some_and(|permit| !permit.try_grow(self.max_message)) {
                    return Err(Error::Overloaded);
                }
                let (max, method) = (self.max_message, self.method);
                // Stop early at a message with too many elements: a decompression bomb.
                let goes_on = move |beginning: &[u8]| {
                    method.is_none_or(|method| !method.elements.are_exceeded_by(beginning))
                };
                let decompress = async move { encoding.decompress(&compressed, max, goes_on) };
                let content = self.workers.run(self.span, decompress).await?;
                content.map_err(|_| malformed())?.ok_or_else(too_large)?
            }
        };
        let length = u32::try_from(content.len()).map_err(|_| too_large())?;
        let mut frame = Vec::with_capacity(PREFIX_BYTES + content.len());
        frame.push(0);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&content);
        resize(&mut permit, frame.len())?;
        Ok(Message { frame: frame.into(), permit })
    }

    /// Reads the one message of a request.
    async fn read(&self, mut body: Body) -> Result<Message, Error> {
        let acquire =
            |budget: &Arc<ConnectionBudget>| budget.try_acquire(0).ok_or(Error::Overloaded);
        let mut permit = self.budget.map(acquire).transpose()?;
        // Most messages arrive in one frame, which is not copied.
        let mut first = Bytes::new();
        let mut rest: Vec<u8> = Vec::new();
        let mut expected = None;
        while let Some(frame) = body.frame().await {
            // The client reset the stream, or its connection ended: nobody reads the response.
            let Ok(data) =
                frame.map_err(|_| ()).and_then(|frame| frame.into_data().map_err(|_| ()))
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
                    resize(&mut permit, wanted)?;
                    rest.reserve_exact(wanted - rest.len());
                }
                rest.extend_from_slice(&data);
            }
            resize(&mut permit, length.max(rest.capacity()))?;
            if expected.is_none() {
                let read = if rest.is_empty() { &first[..] } else { &rest[..] };
                expected = expected_length(read, self.max_message)?;
            }
            if expected.is_some_and(|expected| length > expected) {
                return Err(malformed());
            }
        }
        let frame = if rest.is_empty() { first } else { Bytes::from(rest) };
        if expected != Some(frame.len()) {
            return Err(invalid_request("message", "is missing or ends early"));
        }
        Ok(Message { frame, permit })
    }
}

fn resize(permit: &mut Option<BytesPermit>, bytes: usize) -> Result<(), Error> {
    let fits = permit.as_mut().is_none_or(|permit| permit.try_resize(bytes));
    fits.then_some(()).ok_or(Error::Overloaded)
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
    invalid_request("message", "is larger than grpc.message_limit allows")
}
