//! `completions` and `man`, for packages.

use std::{io, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::{error::CliError, print};

/// The name of the program.
const PROGRAM: &str = "m4-user-details";

/// Write the completions of a shell to standard output.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

/// Write the manual pages into a folder.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// An existing folder.
    folder: PathBuf,
}

impl Completions {
    pub(super) fn run(&self, mut program: Command) -> Result<(), CliError> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut program, PROGRAM, &mut text);
        print::text(&String::from_utf8_lossy(&text));
        Ok(())
    }
}

impl Man {
    pub(super) fn run(&self, program: Command) -> Result<(), CliError> {
        let failed =
            |error: io::Error| CliError::Failed(format!("{}: {error}", self.folder.display()));
        clap_mangen::generate_to(program, &self.folder).map_err(failed)
    }
}
