//! The gRPC server: layers around every call, and handlers that convert, call the domain, and
//! convert back.

pub mod auth;
mod batch;
pub mod call;
pub mod certificates;
pub(crate) mod convert;
mod errors;
mod explanation;
mod gateway_health;
pub(crate) mod layers;
mod legacy_service;
pub(crate) mod listing;
mod metered;
pub(crate) mod outbox;
mod resume;
pub mod services;
mod settings;
pub(crate) mod streams;
mod user_details;
pub(crate) mod watch;
