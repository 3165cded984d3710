//! The limits and timeouts of connections.

use std::time::Duration;

/// The timeout for the first byte of a connection.
pub(crate) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for a TLS handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for the head of an HTTP/1 request, from its first byte, and for the preface and the
/// SETTINGS frame of an HTTP/2 client.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for an HTTP/1 connection without a request.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The timeout for a write without progress: the client does not read.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Linger timeout. Closing a socket with unread input sends RST, and the client loses the last
/// responses.
pub(crate) const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of bytes that are read and dropped until then: more than the largest allowed body.
/// Reading without a limit lets few clients use all processors.
pub(crate) const MAX_LINGER_BYTES: usize = 2 * 1024 * 1024;

/// The limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The largest number of connections.
    pub max: usize,
    /// The largest number of connections of one client address; 0 is no limit. An IPv6 client is
    /// its /64 network.
    pub max_per_address: usize,
    /// The connection that makes room when there are `max`.
    pub makes_room: MakesRoom,
    /// The lifetime of connections.
    pub age: Age,
    /// The timeouts for clients.
    pub timeouts: Timeouts,
}

/// The connection that is closed to make room on a full listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MakesRoom {
    /// The connection that has waited longest for its client. Suits listeners where one address may
    /// be a proxy with the connections of many clients.
    LongestWaiting,
    /// The connection that has waited longest, of the address with the most waiting connections. An
    /// address with few connections keeps them, however fast others connect.
    OfLargestAddress,
}

/// The lifetime of connections. A limit spreads clients over new replicas, and makes clients
/// present their certificates again.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// The age at which a connection takes no new calls, ±10 % at random so that connections do
    /// not end all at once. Zero means never.
    pub longest: Duration,
    /// The grace period for the calls of an old connection.
    pub grace: Duration,
    /// The silence before an HTTP/2 client gets a ping. The client has a third of it to answer.
    pub keepalive: Duration,
}

/// The timeouts for clients. A timeout closes the connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the first byte.
    pub first_byte: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of an HTTP/1 request, from its first byte; and for the preface and the SETTINGS
    /// frame of an HTTP/2 client.
    pub head: Duration,
    /// Between two requests of an HTTP/1 connection.
    pub idle: Duration,
    /// For the client to read when a write makes no progress.
    pub write: Duration,
    /// For the client to close its side after the service has closed.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: FIRST_BYTE_TIMEOUT,
            handshake: HANDSHAKE_TIMEOUT,
            head: HEAD_TIMEOUT,
            idle: IDLE_TIMEOUT,
            write: WRITE_TIMEOUT,
            linger: LINGER_TIMEOUT,
        }
    }
}
