//! Why connections are refused or closed.

/// Why there is no room: a connection is refused, or closed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The client address has reached its limit.
    AddressLimit,
    /// The listener has reached its limit.
    TotalLimit,
    /// The process has no file descriptor left.
    Descriptors,
}

impl Reason {
    /// Every reason.
    pub(super) const ALL: [Self; 3] = [Self::AddressLimit, Self::TotalLimit, Self::Descriptors];

    /// The reason's name in metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AddressLimit => "address_limit",
            Self::TotalLimit => "total_limit",
            Self::Descriptors => "descriptors",
        }
    }
}

/// Why the service closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// There is no room.
    Full(Reason),
    /// No first byte came in time.
    FirstByte,
    /// The header of the PROXY protocol is missing, invalid, or from an address that may not send it.
    ProxyHeader,
    /// The TLS handshake took too long.
    Handshake,
    /// The head of a request, or the beginning of HTTP/2, took too long.
    Head,
    /// No request came, or an HTTP/2 client did not answer a ping.
    Idle,
    /// The client did not read.
    Write,
    /// The connection is old.
    Age,
}

impl Closed {
    /// Every reason.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::FirstByte,
            Self::ProxyHeader,
            Self::Handshake,
            Self::Head,
            Self::Idle,
            Self::Write,
            Self::Age,
        ];
        Reason::ALL.map(Self::Full).into_iter().chain(others)
    }

    /// The reason's name in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full(reason) => reason.as_str(),
            Self::FirstByte => "first_byte_timeout",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "handshake_timeout",
            Self::Head => "head_timeout",
            Self::Idle => "idle_timeout",
            Self::Write => "write_timeout",
            Self::Age => "age",
        }
    }
}
