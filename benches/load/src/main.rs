//! Compares the service with the limit: `cargo run --release -p m4-user-details-load`.
//!
//! For each engine it creates and fills a database, starts the release build, and plays the scenes.
//! After each scene it checks that exactly the acknowledged updates are stored. At the end it
//! prints the goals and their results.
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
    /// Number of users in the database.
    #[arg(long, default_value_t = 100_000)]
    users: i64,
    /// Seconds per path and round.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Number of rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of parallel callers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 512])]
    callers: Vec<usize>,
    /// Engines: sqlite, postgres, mariadb. Servers: `TEST_POSTGRES_URL`, `TEST_MYSQL_URL`.
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// Scenes to play.
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "paths,start,overload,replicas,settings,gather,batch,telemetry,watch,list"
    )]
    scenes: Vec<Scene>,
    /// Scene `sizes`: numbers of users in the tables; `--users` by default.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<i64>,
    /// Scene `sizes`: lengths of change logs to compare with an empty one.
    #[arg(long, value_delimiter = ',')]
    log_rows: Vec<i64>,
    /// Another build of the program to compare with this build.
    #[arg(long)]
    before: Option<std::path::PathBuf>,
    /// Do not build the program.
    #[arg(long)]
    no_build: bool,
    /// The folder for the results.
    #[arg(long, default_value = "target/load")]
    out: std::path::PathBuf,
}

impl Arguments {
    /// Run time of each path in each round.
    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// A scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scene {
    /// Every path at every caller count, and the service's memory.
    Paths,
    /// From start to first response.
    Start,
    /// Four times the service's capacity.
    Overload,
    /// Two replicas compared with one; not on SQLite.
    Replicas,
    /// Legacy calls with cached settings, compared with uncached settings.
    Settings,
    /// Updates that wait to share a transaction, compared with updates that do not; not on SQLite.
    Gather,
    /// Batches of 1000 updates, and single updates beside batches.
    Batch,
    /// Pages of the list, on tables of two sizes.
    List,
    /// Telemetry compared with no telemetry.
    Telemetry,
    /// Subscriptions.
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
        // A task catches a panic, so that no failure leaves a database behind.
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
