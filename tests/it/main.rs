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
mod bodies;
mod change_log;
mod concurrency;
mod contract;
mod deadlines;
mod earlier_schema;
mod epochs;
mod explain;
mod external;
mod hash_limits;
mod heads;
mod http;
mod identities;
mod jwts;
mod layers;
mod legacy_keys;
mod listing;
mod log_size;
mod manners;
mod migrations;
mod new_fields;
mod newer_data;
mod parameters;
mod properties;
mod request_ids;
mod requests;
mod retirement;
mod rows;
mod rpc;
mod settings;
mod store;
mod sweeping;
mod tls;
mod watch;
mod watch_gaps;
mod watch_limits;
mod watch_starts;
