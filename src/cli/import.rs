//! `import`: brings accounts and their reference data in.

use std::path::PathBuf;

use clap::Args;

use super::{error::CliError, print, progress::TerminalProgress};
use crate::{
    config::Config,
    domain::clock::SystemClock,
    import::{
        ImportError,
        mapping::Mapping,
        rejects::Rejects,
        run::{ImportOptions, run},
        sample,
    },
    storage::SqlStore,
};

/// Import accounts and their reference data from CSV files or another database. Stored accounts
/// stay as they are without `--update`. A second import of the same rows changes nothing.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The mapping file (TOML): where the rows of each table come from.
    #[arg(long, value_name = "FILE", required_unless_present = "sample")]
    mapping: Option<PathBuf>,
    /// Check and count only. Write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Change the details of stored users that differ. Each change has an entry in the change log.
    #[arg(long)]
    update: bool,
    /// Write a line for each reason why a row is rejected to this CSV file.
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
    /// Write example CSV files and a commented mapping file to this directory, and end.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["mapping", "dry_run", "update", "rejects", "json"]
    )]
    sample: Option<PathBuf>,
}

impl Import {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        if let Some(directory) = self.sample {
            let mapping = sample::write(&directory)?;
            print::text(&format!("{}\n", mapping.display()));
            return Ok(());
        }
        let mapping = Mapping::read(&self.mapping.unwrap_or_default())?;
        let store = SqlStore::open_existing(config.database.clone()).await;
        let store = store.map_err(|error| CliError::Run(error.into()))?;
        let rejects = Rejects::create(self.rejects.as_deref());
        let options = ImportOptions { dry_run: self.dry_run, update: self.update };
        let mut progress = TerminalProgress::default();
        let report = match rejects {
            Ok(rejects) => {
                run(&store, &SystemClock, &mapping, options, rejects, &mut progress).await
            }
            Err(error) => Err(error),
        };
        store.close().await;
        let report = report?;
        print::text(&if self.json { report.json() } else { report.text() });
        report.failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl From<ImportError> for CliError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Mapping { .. } | ImportError::Columns { .. } => {
                Self::Usage(error.to_string())
            }
            ImportError::Store(error) => Self::Store(error),
            ImportError::File { .. }
            | ImportError::Source { .. }
            | ImportError::Csv { .. }
            | ImportError::Quote { .. }
            | ImportError::OtherImport
            | ImportError::Sequences(_) => Self::Failed(error.to_string()),
        }
    }
}
