//! The listeners: accepting connections, their limits per address and in total, their timeouts,
//! TLS, and their age.

mod activity;
mod connection;
pub mod descriptors;
pub(crate) mod head;
mod http1;
mod http2;
mod limits;
mod listener;
mod proxy_header;
mod reasons;
mod registry;
mod serve;
mod slot;
mod throttle;
mod write;

pub(crate) use activity::Activity;
pub(crate) use http1::HeadTimeout;
pub(crate) use http2::PrefaceTimeout;
pub use limits::{Age, ConnectionLimits, MakesRoom, Timeouts};
pub(crate) use limits::{
    FIRST_BYTE_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT,
    MAX_LINGER_BYTES, WRITE_TIMEOUT,
};
pub(crate) use listener::bind;
pub use listener::{Listener, Proxies};
pub(crate) use serve::{Peer, Stream, serve};
