//! The program in processes of its own: gateway, signals, crashes, replicas, commands, telemetry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod backups;
mod callers;
mod command_line;
mod commands;
mod comparisons;
mod connections;
mod dashboards;
mod disks;
mod doctor;
mod door;
mod exporting;
mod exports;
mod full_disks;
mod galera;
mod health;
mod healthcheck;
mod import_sources;
mod imports;
mod legacy_clients;
mod legacy_keys;
mod lines;
mod metrics;
mod outages;
mod points;
mod program;
mod proxies;
mod receiver;
mod relay;
mod replicas;
mod rotation;
mod runbook;
mod schema;
mod servers;
mod signals;
mod spans;
mod start_errors;
mod stopping;
mod telemetry;
mod tls;
mod tokens;
mod unread;
mod verification;
mod versions;
