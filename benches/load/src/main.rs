//! Measures the service beside the limit on the same work: `cargo run --release -p m4-user-details-load`.
//!
//! For each engine it makes a database of its own, fills it, starts the release build, and runs every path in
//! interleaved rounds. At the end it checks that every update that was acknowledged is there.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may stop at any failure"
)]

mod callers;
mod limit;
mod program;
mod report;
mod scene;

use clap::Parser;

/// What to measure.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Arguments {
    /// How many users the database has.
    #[arg(long, default_value_t = 100_000)]
    users: i64,
    /// How many seconds each path runs in each round.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How many rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many callers at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 512])]
    callers: Vec<usize>,
    /// Which engines: sqlite, postgres, mariadb. The servers are those of `TEST_POSTGRES_URL` and `TEST_MYSQL_URL`.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Where the results go.
    #[arg(long, default_value = "target/load")]
    out: std::path::PathBuf,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    program::build();
    let mut results = Vec::new();
    for engine in scene::Engine::available(&arguments.engines) {
        results.extend(scene::measure(engine, &arguments).await);
    }
    report::write(&results, &arguments);
}
