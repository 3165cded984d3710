//! The writers' queue: updates wait here for a transaction.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    domain::{
        call_context::CallContext,
        error::{Error, chain},
        update::{Update, Updated},
    },
    storage::{connect::Engine, database::Database, sql::transaction::Pending},
};

/// Maximum number of updates per transaction.
pub(super) const MAX_GROUP_UPDATES: usize = 32;

/// The writers' queue, bounded by the permits that its items hold.
#[derive(Clone, Debug)]
pub(in crate::storage) struct Writers {
    queue: mpsc::UnboundedSender<Work>,
    pub(super) probes: Probes,
}

impl Writers {
    /// An empty queue.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Work>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        (Self { queue, probes: Probes::default() }, receiver)
    }

    /// Checks that the writers run and that the database could store an update.
    pub(in crate::storage) async fn probe(&self, database: &Database) -> Result<(), Error> {
        if database.engine() != Engine::Sqlite {
            if self.queue.is_closed() {
                return Err(ended());
            }
            return database.probe().await;
        }
        let (answer, answered) = oneshot::channel();
        self.probes.leave(answer);
        self.queue.send(Work::Wake).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Applies an update. Cancelling the call has no effect after the transaction has begun.
    pub(in crate::storage) async fn apply(
        &self,
        call: CallContext,
        update: Update,
        now: DateTime<Utc>,
        room: OwnedSemaphorePermit,
    ) -> Result<Updated, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job { update, now, call, answer, room };
        self.queue.send(Work::One(Box::new(job))).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Applies a batch, all or nothing. Cancellation works as in [`Self::apply`].
    pub(in crate::storage) async fn apply_all(
        &self,
        call: CallContext,
        updates: Vec<Update>,
        now: DateTime<Utc>,
        room: OwnedSemaphorePermit,
    ) -> Result<Vec<Updated>, Error> {
        let (answer, answered) = oneshot::channel();
        let batch = Batch { updates, now, call, answer, room };
        self.queue.send(Work::All(batch)).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

fn ended() -> Error {
    Error::Unavailable("the writer has ended".into())
}

/// A queued update.
pub(super) struct Job {
    pub(super) update: Update,
    pub(super) now: DateTime<Utc>,
    pub(super) call: CallContext,
    pub(super) answer: oneshot::Sender<Result<Updated, Error>>,
    /// Held until the update is answered.
    pub(super) room: OwnedSemaphorePermit,
}

impl Job {
    pub(super) fn pending(&self) -> Pending<'_> {
        Pending { update: &self.update, now: self.now, record: &self.call.record }
    }

    /// Ignores a dropped caller. Releases the permit first, so that the next call is admitted.
    pub(super) fn answer(self, outcome: Result<Updated, Error>) {
        let Self { answer, room, .. } = self;
        drop(room);
        let _ = answer.send(outcome);
    }
}

/// A queued batch of updates, which all succeed or all fail.
pub(super) struct Batch {
    pub(super) updates: Vec<Update>,
    pub(super) now: DateTime<Utc>,
    pub(super) call: CallContext,
    pub(super) answer: oneshot::Sender<Result<Vec<Updated>, Error>>,
    /// Held until the batch is answered.
    pub(super) room: OwnedSemaphorePermit,
}

impl Batch {
    pub(super) fn pending(&self) -> Vec<Pending<'_>> {
        let pending = |update| Pending { update, now: self.now, record: &self.call.record };
        self.updates.iter().map(pending).collect()
    }

    /// Sends the result. A failure has the index of the first failed update. Ignores a dropped caller.
    pub(super) fn answer(self, outcome: Result<Vec<Result<Updated, Error>>, Error>) {
        let Self { answer, room, .. } = self;
        drop(room);
        let first = |outcomes: Vec<Result<Updated, Error>>| {
            let numbered = outcomes.into_iter().enumerate();
            let named = |(index, outcome): (usize, Result<Updated, Error>)| {
                outcome.map_err(|error| Error::InBatch { index, error: Box::new(error) })
            };
            numbered.map(named).collect()
        };
        let _ = answer.send(outcome.and_then(first));
    }
}

/// An item of the queue.
pub(super) enum Work {
    One(Box<Job>),
    All(Batch),
    /// Wakes the writer for a probe.
    Wake,
}

/// Receives the result of a probe.
pub(super) type ProbeAnswer = oneshot::Sender<Result<(), Error>>;

/// The pending probe, which the writer thread runs before all queued work.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(Arc<Mutex<Option<ProbeAnswer>>>);

impl Probes {
    /// Requests a probe. Cancels a pending probe.
    pub(super) fn leave(&self, answer: ProbeAnswer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    pub(super) fn take(&self) -> Option<ProbeAnswer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Splits work into updates and batches. Drops work whose caller is gone.
pub(super) fn split(
    work: impl IntoIterator<Item = Work, IntoIter: ExactSizeIterator>,
) -> (Vec<Job>, Vec<Batch>) {
    let work = work.into_iter();
    let (mut jobs, mut batches) = (Vec::with_capacity(work.len()), Vec::new());
    for work in work {
        match work {
            Work::One(job) if !job.answer.is_closed() => jobs.push(*job),
            Work::All(batch) if !batch.answer.is_closed() => batches.push(batch),
            Work::One(_) | Work::All(_) | Work::Wake => {}
        }
    }
    (jobs, batches)
}

/// Fails jobs whose transaction may have been committed.
pub(super) fn unknown(jobs: Vec<Job>, error: &Error) {
    let cause = chain(error);
    for job in jobs {
        job.answer(Err(Error::Unavailable(cause.clone().into())));
    }
}
