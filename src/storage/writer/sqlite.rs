//! The writer on SQLite: a thread with the one connection that writes. While it commits, the next updates gather.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::{runtime::Handle, sync::mpsc};

use super::{Batch, Job, MOST, Work, common_span, patience, split, unknown};
use crate::storage::{
    blocking::{Writer, transaction::Refused},
    connect::Options,
    repository::Database,
};

/// Starts the writer.
pub(super) fn start(
    mut queue: mpsc::UnboundedReceiver<Work>,
    options: Options,
    database: Arc<Database>,
) {
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let mut writer = Writer::new(options, database, runtime);
        let mut work = Vec::with_capacity(MOST);
        while queue.blocking_recv_many(&mut work, MOST) > 0 {
            let (jobs, batches) = split(work.drain(..));
            if let Some(span) = common_span(&jobs) {
                run(|| span.in_scope(|| together(&mut writer, jobs)));
            }
            for batch in batches {
                run(|| batch.span.clone().in_scope(|| all(&mut writer, batch)));
            }
        }
    });
}

/// A panic ends these updates and not the writer.
fn run(transaction: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(transaction)).is_err() {
        tracing::error!("a transaction has panicked");
    }
}

/// Runs a batch.
fn all(writer: &mut Writer, mut batch: Batch) {
    let (ahead, patience) = (batch.ahead.take(), patience([batch.deadline]));
    let outcomes = writer.apply(&batch.updates(), Refused::All, patience, ahead);
    batch.answer(outcomes.map_err(|failure| failure.error));
}

/// Runs updates in one transaction, and answers them. If it was certainly rolled back for what one of them did, each is run
/// in one of its own: none harms another.
fn together(writer: &mut Writer, jobs: Vec<Job>) {
    let updates: Vec<_> = jobs.iter().map(|job| (&job.update, job.now)).collect();
    let patience = patience(jobs.iter().map(|job| job.deadline));
    match writer.apply(&updates, Refused::Alone, patience, None) {
        Ok(outcomes) => {
            jobs.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(outcome));
        }
        Err(failure) if !failure.may_be_repeated() => unknown(jobs, &failure.error),
        Err(failure) => match <[Job; 1]>::try_from(jobs) {
            Ok([job]) => job.answer(Err(failure.error)),
            Err(jobs) => jobs.into_iter().for_each(|job| together(writer, vec![job])),
        },
    }
}
