//! `compare`: the rows of a source and the stored rows.

use std::path::PathBuf;

use clap::Args;

use super::{error::CliError, print, progress::TerminalProgress};
use crate::{
    config::Config,
    import::{compare::compare, drift::Drift, mapping::Mapping},
    storage::SqlStore,
};

/// The text in place of a value.
const MASKED_VALUE: &str = "***";

/// Compare the rows of CSV files or another database with the stored rows. Tab-separated. The exit
/// code is 3 if there is a difference.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The mapping file (TOML) of `import`.
    #[arg(long, value_name = "FILE")]
    mapping: PathBuf,
    /// Show the stored values and the values of the source.
    #[arg(long)]
    show_values: bool,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        let mapping = Mapping::read(&self.mapping)?;
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        if !self.json {
            print::text("table\tid\tfield\tdrift\there\tthere\n");
        }
        let mut differences = 0;
        let mut receive = |drift| {
            differences += 1;
            print::text(&self.line(drift));
        };
        let mut progress = TerminalProgress::default();
        let compared = compare(&store, &mapping, &mut receive, &mut progress).await;
        store.close().await;
        compared?;
        if differences > 0 { Err(CliError::Drift(differences)) } else { Ok(()) }
    }

    fn line(&self, mut drift: Drift) -> String {
        if !self.show_values {
            for value in [&mut drift.here, &mut drift.there].into_iter().flatten() {
                MASKED_VALUE.clone_into(value);
            }
        }
        if self.json {
            return serde_json::to_string(&drift).unwrap_or_default() + "\n";
        }
        let Drift { table, id, field, here, there, .. } = drift;
        // A text may have tabs and line breaks.
        let value = |value: Option<String>| {
            value.map_or_else(|| "-".to_owned(), |value| value.escape_debug().to_string())
        };
        let (here, there) = (value(here), value(there));
        let field = if field.is_empty() { "-" } else { field };
        format!("{table}\t{id}\t{field}\t{}\t{here}\t{there}\n", drift.drift.as_str())
    }
}
