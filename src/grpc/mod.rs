//! The gRPC server: layers around every call, and handlers that convert, call the domain, and
//! convert back.

mod administration;
pub mod auth;
pub mod call;
pub mod certificates;
pub(crate) mod convert;
mod errors;
mod explanation;
mod gateway_health;
pub(crate) mod http2;
pub(crate) mod layers;
mod legacy_blocks;
mod legacy_clients;
mod legacy_keys;
mod legacy_service;
mod metrics;
pub(crate) mod outbox;
pub(crate) mod paging;
mod resume;
pub mod services;
mod settings;
pub(crate) mod streams;
pub(crate) mod user_details;
pub(crate) mod workers;
