//! The arguments of the benchmark.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// What to measure.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Arguments {
    /// Number of users in the database.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) users: i64,
    /// Seconds per path and round.
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u64,
    /// Number of rounds.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Numbers of parallel callers.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 512])]
    pub(crate) callers: Vec<usize>,
    /// Engines: sqlite, postgres, mariadb. Servers: `TEST_POSTGRES_URL`, `TEST_MYSQL_URL`.
    #[arg(long, value_delimiter = ',')]
    pub(crate) engines: Vec<String>,
    /// Scenes to play.
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "paths,start,overload,replicas,settings,gather,batch,telemetry,watch,hashes,keys,list"
    )]
    pub(crate) scenes: Vec<Scene>,
    /// Scene `sizes`: numbers of users in the tables; `--users` by default.
    #[arg(long, value_delimiter = ',')]
    pub(crate) sizes: Vec<i64>,
    /// Scene `sizes`: lengths of change logs to compare with an empty one.
    #[arg(long, value_delimiter = ',')]
    pub(crate) log_rows: Vec<i64>,
    /// Another build of the program to compare with this build.
    #[arg(long)]
    pub(crate) before: Option<std::path::PathBuf>,
    /// Do not build the program.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// The folder for the results.
    #[arg(long, default_value = "target/load")]
    pub(crate) out: std::path::PathBuf,
}

impl Arguments {
    /// Run time of each path in each round.
    pub(crate) fn time(&self) -> Duration {
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
    /// The times of wrong hashes.
    Hashes,
    /// Legacy calls with one client key, and with many.
    Keys,
    /// Tables and logs of several sizes.
    Sizes,
}
