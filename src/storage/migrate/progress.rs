//! The events of a running migration.

use std::time::Duration;

/// An event of a migration.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A step was applied. On SQLite, the transaction of all steps is committed.
    Applied {
        /// The name of the step.
        step: &'a str,
        /// The time that the step took, with its waits for locks.
        took: Duration,
    },
    /// An open transaction locks a table. Reported once per minute.
    Locked {
        /// The name of the work that waits.
        work: &'a str,
    },
    /// Another replica migrates. Reported once per minute.
    OtherReplica,
}

/// The receiver of the events.
pub type Report<'a> = &'a (dyn Fn(Progress<'_>) + Send + Sync);

/// Logs an event.
pub(super) fn log(progress: Progress<'_>) {
    match progress {
        Progress::Applied { step, took } => {
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(step, milliseconds, "a step of the schema was applied");
        }
        Progress::Locked { work } => {
            tracing::warn!(
                work,
                "the schema is not up to date yet: an open transaction locks a table"
            );
        }
        Progress::OtherReplica => {
            tracing::info!("another replica brings the schema up to date");
        }
    }
}
