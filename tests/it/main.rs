//! The real application, in this process, on every engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod batch;
mod change_log;
mod concurrency;
mod contract;
mod deadlines;
mod explain;
mod http;
mod identities;
mod jwts;
mod listing;
mod manners;
mod parameters;
mod properties;
mod request_ids;
mod requests;
mod rows;
mod rpc;
mod settings;
mod store;
mod tls;
mod watch;
