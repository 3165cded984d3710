//! The legacy gateway: translates a hashed HTTP call to one RPC, and the result to XML. The gateway
//! uses only the generated gRPC client: no database, no secret, no rule.

mod body_reader;
mod client_address;
mod readiness;
mod response;
mod retirement;
mod router;
pub mod serve;
mod telemetry;

pub use client_address::{ForwardedHeader, TrustedProxies};
pub(crate) use readiness::Readiness;
pub use response::Answers;
pub use router::{Gateway, Limits};
