//! The gRPC side: authenticate, convert, call the domain, convert back.

pub mod auth;
mod call;
pub mod certificates;
pub(crate) mod convert;
mod errors;
mod listing;
pub mod server;
mod settings;
mod user_details;
