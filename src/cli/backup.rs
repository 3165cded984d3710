//! `backup` and `restore`: copies of a SQLite database.

use std::path::PathBuf;

use clap::Args;

use super::{administrator::administrator, error::CliError, print};
use crate::{
    config::Config,
    domain::{
        clock::{Clock, SystemClock},
        error::chain,
    },
    storage::{BackupError, backup, restore},
};

/// Copy the SQLite database into a new file, beside a running service. The copy is consistent and
/// synced to disk.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The new file.
    file: PathBuf,
}

/// Put a backup in place of the SQLite database. Every service must be stopped.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup.
    file: PathBuf,
}

impl Backup {
    pub(super) fn run(&self, config: &Config) -> Result<(), CliError> {
        let bytes = backup(&config.database, &self.file)?;
        print::text(&format!("{} has {bytes} bytes\n", self.file.display()));
        Ok(())
    }
}

impl Restore {
    pub(super) async fn run(&self, config: &Config) -> Result<(), CliError> {
        let by = (&administrator(), SystemClock.now());
        let bytes = restore(&config.database, &self.file, by).await?;
        print::text(&format!(
            "the database is restored, begins a new epoch, and has {bytes} bytes\n"
        ));
        Ok(())
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Server(_) => Self::Usage(error.to_string()),
            error => Self::Failed(chain(&error)),
        }
    }
}
