//! The writer on SQLite: a thread with the one connection that writes. While it commits, the next updates gather.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::{runtime::Handle, sync::mpsc};

use super::{Job, MOST, gather, unknown};
use crate::storage::{blocking::Writer, connect::Options};

/// Starts the writer.
pub(super) fn start(mut queue: mpsc::UnboundedReceiver<Job>, options: Options) {
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let mut writer = Writer::new(options, runtime);
        let mut jobs = Vec::with_capacity(MOST);
        while queue.blocking_recv_many(&mut jobs, MOST) > 0 {
            let Some(span) = gather(&mut jobs) else { continue };
            let jobs = std::mem::take(&mut jobs);
            // A panic ends these updates and not the writer.
            let together = AssertUnwindSafe(|| span.in_scope(|| together(&mut writer, jobs)));
            if catch_unwind(together).is_err() {
                tracing::error!("a transaction has panicked");
            }
        }
    });
}

/// Runs updates in one transaction, and answers them. If it was certainly rolled back for what one of them did, each is run
/// in one of its own: none harms another.
fn together(writer: &mut Writer, jobs: Vec<Job>) {
    let updates: Vec<_> = jobs.iter().map(|job| (&job.update, job.now)).collect();
    match writer.apply(&updates) {
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
