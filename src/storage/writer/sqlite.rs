//! The writer on SQLite: a thread with the only writing connection. Updates queue while it commits.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    queue::{Batch, Job, MAX_GROUP_UPDATES, Probes, Work, split, unknown},
    traced::{Traced, transaction},
};
use crate::storage::{
    connect::Options, database::Database, patience::patience, place::Place,
    sql::transaction::Atomicity, sqlite_writer::Writer,
};

/// Batches get at most one part in this many of the writer's time while single updates are queued.
const BATCHES_PART: u32 = 10;
/// Maximum time that single updates delay a batch.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A batch runs at once if no single update arrives for this long.
const IDLE_TIME: Duration = Duration::from_millis(10);

/// Starts the writer thread.
pub(super) fn start(
    queue: mpsc::UnboundedReceiver<Work>,
    probes: Probes,
    options: Options,
    database: Arc<Database>,
    place: Arc<Place>,
) {
    let runtime = Handle::current();
    std::thread::spawn(move || {
        let writer = Writer::new(options, database, place, runtime.clone());
        write(queue, &probes, writer, &runtime);
    });
}

/// Runs queued work until the queue is closed. Batches wait for their turn, one at a time.
fn write(
    mut queue: mpsc::UnboundedReceiver<Work>,
    probes: &Probes,
    mut writer: Writer,
    runtime: &Handle,
) {
    let mut work = Vec::with_capacity(MAX_GROUP_UPDATES);
    let mut waiting = VecDeque::new();
    // Single updates have priority until `singles_until`. `any` is set if some ran since the last batch.
    let (mut singles_until, mut any) = (Instant::now(), false);
    let mut took = Duration::ZERO;
    loop {
        let received = if let Some(batch) = waiting.front() {
            let patience =
                due(batch, singles_until, took).saturating_duration_since(Instant::now());
            let more = queue.recv_many(&mut work, MAX_GROUP_UPDATES);
            runtime.block_on(async { timeout(patience.min(IDLE_TIME), more).await })
        } else {
            Ok(queue.blocking_recv_many(&mut work, MAX_GROUP_UPDATES))
        };
        if let Some(answer) = probes.take() {
            // The caller may be gone.
            run(|| drop(answer.send(writer.probe())));
        }
        let (jobs, batches) = split(work.drain(..));
        waiting.extend(batches);
        if !jobs.is_empty() {
            any = true;
            run(|| run_group(&mut writer, jobs));
        }
        let begun = Instant::now();
        let is_due = |batch: &mut Batch| begun >= due(batch, singles_until, took);
        let turn = if matches!(received, Ok(1..)) {
            waiting.pop_front_if(is_due)
        } else {
            waiting.pop_front()
        };
        if let Some(batch) = turn {
            run(|| all(&mut writer, batch));
            took = begun.elapsed();
            singles_until = Instant::now();
            if any {
                singles_until += (took * (BATCHES_PART - 1)).min(LONGEST_WAIT);
            }
            any = false;
        } else if received == Ok(0) {
            return;
        }
    }
}

/// When a batch runs: at `singles_until`, or earlier if its deadline requires it. `took` is the duration
/// of the last batch.
fn due(batch: &Batch, singles_until: Instant, took: Duration) -> Instant {
    let latest = batch.call.deadline.and_then(|deadline| deadline.checked_sub(took * 2));
    latest.map_or(singles_until, |latest| latest.min(singles_until))
}

/// A panic fails these updates, not the writer.
fn run(transaction: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(transaction)).is_err() {
        tracing::error!("a transaction has panicked");
    }
}

/// Runs a batch.
fn all(writer: &mut Writer, batch: Batch) {
    if batch.answer.is_closed() {
        return;
    }
    let patience = patience([batch.call.deadline]);
    let transaction = transaction(&batch.call.span);
    let (pending, atomicity) = (batch.pending(), Atomicity::AllOrNothing);
    let outcomes =
        transaction.in_scope(|| writer.apply(&pending, atomicity, patience, &transaction));
    transaction.end();
    batch.answer(outcomes.map_err(|failure| failure.error));
}

/// Runs updates in one transaction and answers them. After a certain rollback, each update runs in
/// its own transaction, so that one update cannot fail the others.
fn run_group(writer: &mut Writer, jobs: Vec<Job>) {
    let updates: Vec<_> = jobs.iter().map(Job::pending).collect();
    let patience = patience(jobs.iter().map(|job| job.call.deadline));
    let transaction = Traced::of(jobs.iter()).with(&jobs);
    let atomicity = Atomicity::PerItem;
    let applied =
        transaction.in_scope(|| writer.apply(&updates, atomicity, patience, &transaction));
    // End the span before the spans of its calls.
    transaction.end();
    match applied {
        Ok(outcomes) => {
            jobs.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(outcome));
        }
        Err(failure) if !failure.may_be_repeated() => unknown(jobs, &failure.error),
        Err(failure) => match <[Job; 1]>::try_from(jobs) {
            Ok([job]) => job.answer(Err(failure.error)),
            Err(jobs) => jobs.into_iter().for_each(|job| run_group(writer, vec![job])),
        },
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::domain::call_context::CallContext;

    #[tokio::test]
    async fn a_batch_waits_for_its_turn_unless_its_deadline_would_pass() {
        let now = Instant::now();
        let (milliseconds, took) = (Duration::from_millis, Duration::from_millis(100));
        let singles_until = now + milliseconds(900);
        for (deadline, expected) in [(None, 900), (Some(500), 300), (Some(5000), 900)] {
            let batch = Batch {
                updates: Vec::new(),
                now: DateTime::UNIX_EPOCH,
                call: CallContext {
                    deadline: deadline.map(|deadline| now + milliseconds(deadline)),
                    ..CallContext::default()
                },
                answer: oneshot::channel().0,
                room: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
            };
            assert_eq!(due(&batch, singles_until, took), now + milliseconds(expected));
        }
    }
}
