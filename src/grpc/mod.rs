//! The gRPC side: authenticate, convert, call the domain, convert back.

pub mod auth;
pub mod call;
pub mod certificates;
pub(crate) mod convert;
mod errors;
mod explanation;
mod legacy;
mod listing;
mod metered;
pub mod server;
mod settings;
mod unserved;
mod user_details;
mod watch;
