//! `legacy`: who still makes legacy calls.

use std::fmt::Write;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{error::CliError, print};
use crate::{
    config::Config,
    domain::{
        call_context::CallContext,
        legacy_client_store::{ClientQuery, LegacyClient, LegacyClientStore},
    },
    storage::SqlStore,
};

/// Clients per read.
const PAGE: u64 = 1000;

/// See which clients make legacy calls.
#[derive(Debug, Args)]
pub(super) struct Legacy {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the clients, those last seen first: tab-separated. A call is in the list within ten seconds.
    Report {
        /// One JSON object per line.
        #[arg(long)]
        json: bool,
        /// Only clients that were seen since this day or time (UTC), such as `2026-11-01` or
        /// `2026-11-01T12:00:00Z`.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        since: Option<DateTime<Utc>>,
    },
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    text.parse().or_else(|_| day()).map_err(|_| "must be a day or a time of RFC 3339")
}

impl Legacy {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let Action::Report { json, since } = self.action;
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        if !json {
            print::text(
                "key\taddress\tu\tlast seen\tfirst seen\tcalls\trefused\tGET\twrong hashes\trecipe\tfields\n",
            );
        }
        let mut query = ClientQuery { since, after: None, limit: PAGE };
        let outcome = loop {
            let page = match store.legacy_clients(&CallContext::default(), &query).await {
                Ok(page) => page,
                Err(error) => break Err(error),
            };
            let lines = page.iter().map(|client| if json { object(client) } else { line(client) });
            print::text(&lines.collect::<String>());
            match page.last() {
                Some(last) if page.len() as u64 == PAGE => {
                    query.after = Some((last.last.timestamp_micros(), last.id.digest()));
                }
                _ => break Ok(()),
            }
        };
        store.close().await;
        Ok(outcome?)
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn line(client: &LegacyClient) -> String {
    let mut line = String::new();
    let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let LegacyClient { id, calls, refused, gets, failed_hashes, recipe, .. } = client;
    // Writing into a string does not fail.
    let _ = writeln!(
        line,
        "{}\t{}\t{}\t{}\t{}\t{calls}\t{refused}\t{gets}\t{failed_hashes}\t{recipe}\t{}",
        id.key,
        or(&id.network),
        or(&id.username),
        time(client.last),
        time(client.first),
        or(&client.fields.join(",")),
    );
    line
}

fn object(client: &LegacyClient) -> String {
    let object = json!({
        "key": client.id.key,
        "network": client.id.network,
        "username": client.id.username,
        "first_time": time(client.first),
        "last_time": time(client.last),
        "calls": client.calls,
        "refused": client.refused,
        "gets": client.gets,
        "failed_hashes": client.failed_hashes,
        "recipe": client.recipe,
        "fields": client.fields,
    });
    format!("{object}\n")
}
