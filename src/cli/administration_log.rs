//! `administration-log`: who changed settings, tokens, keys and blocks.

use std::fmt::Write;

use clap::Args;

use super::{error::CliError, print};
use crate::{
    config::Config,
    domain::{administration::AdminEntry, call_context::CallContext, store::Store},
    storage::SqlStore,
};

/// List the changes of settings, tokens, keys and blocks, newest first: tab-separated.
#[derive(Debug, Args)]
pub(super) struct AdministrationLog {
    /// Maximum number of entries.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// List only older entries than this one.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
}

impl AdministrationLog {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        let read = store.administration_log(&CallContext::default(), self.before, self.limit).await;
        store.close().await;
        let mut text =
            "id\ttime\tidentity\tacting username\taddress\tobject\tname\told\tnew\n".to_owned();
        for entry in read? {
            let AdminEntry { id, time, by, object, name, old, new } = entry;
            let time = print::time(time);
            let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let cells =
                [by.identity, by.acting_username, by.address, object, name, or(old), or(new)];
            let cells = cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell });
            // Writing into a string does not fail.
            let _ = writeln!(text, "{id}\t{time}\t{}", cells.join("\t"));
        }
        print::text(&text);
        Ok(())
    }
}
