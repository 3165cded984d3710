//! The program as processes of its own: a door apart, signals, crashes, replicas, the command line, telemetry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod callers;
mod command_line;
mod commands;
mod dashboards;
mod door;
mod exports;
mod health;
mod lines;
mod metrics;
mod outages;
mod points;
mod program;
mod receiver;
mod relay;
mod replicas;
mod signals;
mod spans;
mod stopping;
mod sweeping;
mod telemetry;
mod tls;
mod tokens;
