//! Clusters of real database servers. Nodes are killed, frozen and isolated while two service
//! replicas are written to. Afterwards every acknowledged update must be stored exactly once.
//!
//! `CLUSTER_TEST_ROUNDS` sets how often each fault happens. The default is 1.
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

#[allow(dead_code, reason = "this test binary uses some of it")]
#[path = "../processes/relay.rs"]
mod relay;

mod checker;
mod galera;
mod load;
mod postgres;
mod report;
mod stored;
mod watchers;
mod writers;

use tokio::sync::{Mutex, MutexGuard};

/// How often each fault happens.
fn rounds() -> u32 {
    std::env::var("CLUSTER_TEST_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

/// Clusters run one at a time: each needs the machine's cores.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    ONE_AT_A_TIME.lock().await
}
