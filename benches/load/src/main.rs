//! Measures the service beside the limit on the same work: `cargo run --release -p m4-user-details-load`.
//!
//! For each engine it makes a database of its own, fills it, starts the release build, and plays the scenes: every
//! path in interleaved rounds, the start, overload, two replicas, and tables of several sizes. After each scene it
//! checks that just the updates that were acknowledged are there. At the end it prints what became of the goals.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may stop at any failure"
)]

mod callers;
mod database;
mod engine;
mod fill;
mod goals;
mod limit;
mod measured;
mod path;
mod plot;
mod profile;
mod program;
mod report;
mod scenes;

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::engine::Engine;

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
    /// Which scenes.
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "paths,start,overload,replicas,settings,gather,batch,telemetry,watch,list"
    )]
    scenes: Vec<Scene>,
    /// In the scene of sizes: how many users the tables have; as many as `--users` if none is given.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<i64>,
    /// In the scene of sizes: how many entries the logs have that are compared with an empty one.
    #[arg(long, value_delimiter = ',')]
    log_rows: Vec<i64>,
    /// Another build of the program, which is measured beside this one.
    #[arg(long)]
    before: Option<std::path::PathBuf>,
    /// The program beside this one is built already.
    #[arg(long)]
    no_build: bool,
    /// Where the results go.
    #[arg(long, default_value = "target/load")]
    out: std::path::PathBuf,
}

impl Arguments {
    /// How long each path runs in each round.
    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// A scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scene {
    /// Every path at every number of callers, and the service's memory.
    Paths,
    /// From the start to the first answer.
    Start,
    /// Four times as many calls as the service can answer.
    Overload,
    /// Two replicas beside one; not on SQLite.
    Replicas,
    /// Legacy calls while the settings are believed for a second, beside settings that are read for each.
    Settings,
    /// Updates that wait for others to share a transaction, beside those that do not; not on SQLite.
    Gather,
    /// Batches of 1000 updates, and single ones beside them.
    Batch,
    /// Pages of the list, on tables of two sizes.
    List,
    /// Telemetry beside none.
    Telemetry,
    /// Those who watch.
    Watch,
    /// Tables and logs of several sizes.
    Sizes,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if !arguments.no_build {
        program::build();
    }
    let mut results = report::Results::new(program::stripped_size());
    for engine in Engine::available(&arguments.engines) {
        // In a task, so that no failure leaves a database behind.
        let scenes = tokio::spawn(scenes::play(engine.clone(), arguments.clone()));
        let played = scenes.await;
        database::drop_all(&engine).await;
        match played {
            Ok(played) => results.add(played),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
    report::write(&results, &arguments.out);
}
