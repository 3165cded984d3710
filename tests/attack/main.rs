//! Attacks on the real program with little memory. A healthy client must not notice them.
#![cfg(target_os = "linux")]
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

mod admin;
mod answers;
mod connections;
mod healthy;
mod messages;
mod mix;
mod raw;
mod stopping;
mod tls;
mod tokens;
mod victim;
