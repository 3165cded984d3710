//! `legacy`: who still makes legacy calls, and who is kept from them.

mod blocks;
mod report;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Subcommand};

use super::error::CliError;
use crate::{config::Config, storage::SqlStore};

/// See which clients make legacy calls, and block addresses and usernames.
#[derive(Debug, Args)]
pub(super) struct Legacy {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the clients, the most recently seen first: tab-separated. A call is in the list within ten seconds.
    Report {
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
        /// Only clients that were seen since this day or time (UTC), such as `2026-11-01` or
        /// `2026-11-01T12:00:00Z`.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        since: Option<DateTime<Utc>>,
    },
    /// List, lift and add blocks. A running service follows within two seconds.
    #[command(subcommand)]
    Blocks(blocks::Blocks),
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    text.parse().or_else(|_| day()).map_err(|_| "must be a day or a time of RFC 3339")
}

impl Legacy {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        let outcome = match self.action {
            Action::Report { json, since } => report::report(&store, json, since).await,
            Action::Blocks(blocks) => blocks.run(&store).await,
        };
        store.close().await;
        outcome
    }
}
