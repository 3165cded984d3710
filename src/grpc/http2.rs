//! The HTTP/2 limits of a connection.

/// Maximum concurrent streams of a connection.
pub(crate) const MAX_STREAMS: u32 = 256;
/// HTTP/2 flow control window of a connection and of each stream, in bytes. Received bytes wait in
/// memory until a call reads them.
pub(crate) const WINDOW_BYTES: u32 = 256 * 1024;
/// Maximum header list size, in bytes: names, values, and 32 bytes each (RFC 9113, 6.5.2).
pub(crate) const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Bytes of a response that hyper buffers for each stream.
pub(super) const SEND_BUFFER_BYTES: usize = 64 * 1024;
