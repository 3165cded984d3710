//! `migrate`: brings the schema up to date, or shows the pending steps.

use std::fmt::Write;

use clap::Args;

use super::{error::CliError, print};
use crate::{
    config::Config,
    storage::{PlannedStep, Progress, StepState, migrate_with, plan},
};

/// Bring the database's schema up to date. Prints each step with its time.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Fill a database that has no account with the demo data.
    #[arg(long, conflicts_with_all = ["status", "dry_run"])]
    demo: bool,
    /// List each step: applied or pending, and whether older programs can run on it. Changes
    /// nothing. Exit code 1 if steps are pending.
    #[arg(long, conflicts_with = "dry_run")]
    status: bool,
    /// Print the pending steps as a script for the database's own client. Changes nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Migrate {
    pub(super) async fn run(self, config: &Config) -> Result<(), CliError> {
        if self.status {
            return status(&steps(config).await?);
        }
        if self.dry_run {
            print::text(&sql(&steps(config).await?));
            return Ok(());
        }
        let migrated = migrate_with(&config.database, self.demo, &tell).await;
        migrated.map_err(|error| CliError::Run(error.into()))?;
        print::text("the schema is up to date\n");
        Ok(())
    }
}

async fn steps(config: &Config) -> Result<Vec<PlannedStep>, CliError> {
    plan(&config.database).await.map_err(|error| CliError::Run(error.into()))
}

fn tell(progress: Progress<'_>) {
    match progress {
        Progress::Applied { step, took } => {
            print::text(&format!("{step}: applied in {} ms\n", took.as_millis()));
        }
        Progress::Locked { work } => {
            print::text(&format!("{work}: waits for an open transaction that locks a table\n"));
        }
        Progress::OtherReplica => print::text("waits for another replica, which migrates\n"),
    }
}

fn status(steps: &[PlannedStep]) -> Result<(), CliError> {
    let mut text = "step\tstate\tolder programs\n".to_owned();
    for PlannedStep { name, state, incompatible, .. } in steps {
        let state = match state {
            StepState::Applied => "applied",
            StepState::Pending => "pending",
            StepState::Newer => "applied by a newer version",
        };
        let older = incompatible.map_or("can run".to_owned(), |why| format!("cannot run: {why}"));
        // Writing into a string does not fail.
        let _ = writeln!(text, "{name}\t{state}\t{older}");
    }
    print::text(&text);
    match steps.iter().filter(|step| step.state == StepState::Pending).count() {
        0 => Ok(()),
        1 => Err(CliError::Failed("1 step is pending".to_owned())),
        many => Err(CliError::Failed(format!("{many} steps are pending"))),
    }
}

fn sql(steps: &[PlannedStep]) -> String {
    let mut text = String::new();
    for PlannedStep { name, script, .. } in
        steps.iter().filter(|step| step.state == StepState::Pending)
    {
        let script = script.as_deref().unwrap_or("-- nothing on this engine");
        // Writing into a string does not fail.
        let _ = writeln!(text, "-- {name}\n{script}");
    }
    text
}
