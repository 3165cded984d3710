//! The documentation: generated tables, links, and the commands in code blocks.
//!
//! `WRITE_DOCS=1 cargo test --test docs generated` writes the generated tables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "this test binary uses some of it")]
#[path = "../processes/program.rs"]
mod program;

mod blocks;
mod generated;
mod grpcurl;
mod links;
mod pages;
mod reference;
mod session;
