//! Groups queued updates into one transaction, which saves round trips and commits.

mod gathering;
mod servers;
mod sqlite;

pub(super) use servers::writing;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use opentelemetry::trace::{SpanContext, SpanKind};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};

use super::{
    connect::{ACQUIRE_TIMEOUT, Engine, Options},
    database::Database,
    feed::wake,
};
use crate::domain::{
    call_context::{CallContext, CallRecord},
    error::{Error, chain},
    update::{Update, Updated},
};
use crate::trace::Span;

/// Maximum number of updates per transaction.
const MAX_GROUP_UPDATES: usize = 32;

/// Slack after the last deadline: callers see their deadline and not a lock timeout.
const SLACK: Duration = Duration::from_millis(50);

/// An update to decide and store.
#[derive(Clone, Copy)]
pub(super) struct Pending<'a> {
    pub(super) update: &'a Update,
    pub(super) now: DateTime<Utc>,
    pub(super) record: &'a CallRecord,
}

/// A queued update.
struct Job {
    update: Update,
    now: DateTime<Utc>,
    call: CallContext,
    answer: oneshot::Sender<Result<Updated, Error>>,
    /// Held until the update is answered.
    room: OwnedSemaphorePermit,
}

impl Job {
    fn pending(&self) -> Pending<'_> {
        Pending { update: &self.update, now: self.now, record: &self.call.record }
    }

    /// Ignores a dropped caller. Releases the permit first, so that the next call is admitted.
    fn answer(self, outcome: Result<Updated, Error>) {
        let Self { answer, room, .. } = self;
        drop(room);
        let _ = answer.send(outcome);
    }
}

/// A queued batch of updates, which all succeed or all fail.
struct Batch {
    updates: Vec<Update>,
    now: DateTime<Utc>,
    call: CallContext,
    answer: oneshot::Sender<Result<Vec<Updated>, Error>>,
    /// Held until the batch is answered.
    room: OwnedSemaphorePermit,
}

impl Batch {
    fn pending(&self) -> Vec<Pending<'_>> {
        let pending = |update| Pending { update, now: self.now, record: &self.call.record };
        self.updates.iter().map(pending).collect()
    }

    /// Names the index of the first failed update. Ignores a dropped caller.
    fn answer(self, outcome: Result<Vec<Result<Updated, Error>>, Error>) {
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
enum Work {
    One(Job),
    All(Batch),
    /// Wakes the writer for a probe.
    Wake,
}

/// Receives the result of a probe.
type ProbeAnswer = oneshot::Sender<Result<(), Error>>;

/// The pending probe, which the writer thread runs before all queued work.
#[derive(Clone, Debug, Default)]
struct Probes(Arc<Mutex<Option<ProbeAnswer>>>);

impl Probes {
    /// Requests a probe. Cancels a pending probe.
    fn leave(&self, answer: ProbeAnswer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<ProbeAnswer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Splits work into updates and batches. Drops work whose caller is gone.
fn split(
    work: impl IntoIterator<Item = Work, IntoIter: ExactSizeIterator>,
) -> (Vec<Job>, Vec<Batch>) {
    let work = work.into_iter();
    let (mut jobs, mut batches) = (Vec::with_capacity(work.len()), Vec::new());
    for work in work {
        match work {
            Work::One(job) if !job.answer.is_closed() => jobs.push(job),
            Work::All(batch) if !batch.answer.is_closed() => batches.push(batch),
            Work::One(_) | Work::All(_) | Work::Wake => {}
        }
    }
    (jobs, batches)
}

/// The writers' queue, bounded by the permits that its items hold.
#[derive(Clone, Debug)]
pub(super) struct Writers {
    queue: mpsc::UnboundedSender<Work>,
    probes: Probes,
}

impl Writers {
    /// Starts the writers of a database. They end when the last handle is dropped.
    pub(super) fn start(database: &Arc<Database>, options: &Options) -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        let probes = Probes::default();
        match database.place() {
            Some(place) => {
                let (probes, place) = (probes.clone(), Arc::clone(place));
                sqlite::start(queue, probes, options.clone(), Arc::clone(database), place);
            }
            None => {
                wake::start(database);
                servers::start(queue, Arc::clone(database), options);
            }
        }
        Self { queue: sender, probes }
    }

    /// Checks that the writers run and that the database could store an update.
    pub(super) async fn probe(&self, database: &Database) -> Result<(), Error> {
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

    /// Applies an update. A cancelled call stops the update only before its transaction begins.
    pub(super) async fn apply(
        &self,
        call: CallContext,
        update: Update,
        now: DateTime<Utc>,
        room: OwnedSemaphorePermit,
    ) -> Result<Updated, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job { update, now, call, answer, room };
        self.queue.send(Work::One(job)).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Applies a batch, all or nothing. Cancellation works as in [`Self::apply`].
    pub(super) async fn apply_all(
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

/// The lock timeout for callers with these deadlines, if shorter than the default.
pub(super) fn patience(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Duration> {
    let last =
        deadlines.into_iter().try_fold(None, |last, deadline| Some(last.max(Some(deadline?))));
    let patience = last??.saturating_duration_since(Instant::now()) + SLACK;
    (patience < ACQUIRE_TIMEOUT).then_some(patience)
}

/// The default statement timeout on a server; see [`super::connect`].
const LONGEST_STATEMENT: Duration = Duration::from_secs(10);

/// The statement timeout for reads until a deadline, if shorter than the default.
pub(super) fn reading_patience(deadline: Option<Instant>) -> Option<Duration> {
    let patience = deadline?.saturating_duration_since(Instant::now()) + SLACK;
    (patience < LONGEST_STATEMENT).then_some(patience)
}

fn ended() -> Error {
    Error::Unavailable("the writer has ended".into())
}

/// A transaction's span: a child of its first sampled job's span. Other sampled jobs link to it.
struct Traced {
    span: Span,
    /// The span context of that job, or `None` if no job is sampled.
    owner: Option<SpanContext>,
}

impl Traced {
    /// Starts the span. More jobs may join later.
    fn of<'a>(jobs: impl Iterator<Item = &'a Job>) -> Self {
        let mut first = None;
        for job in jobs {
            let owner = job.call.span.kept();
            if owner.is_some() {
                return Self { span: transaction(&job.call.span), owner };
            }
            first.get_or_insert(&job.call.span);
        }
        Self { span: first.cloned().unwrap_or_default(), owner: None }
    }

    /// Returns the span and links the other jobs to it, once `jobs` is complete.
    fn with(self, jobs: &[Job]) -> Span {
        let Self { span, owner } = if self.owner.is_some() { self } else { Self::of(jobs.iter()) };
        if let Some(owner) = owner {
            let sampled = jobs.iter().filter(|job| job.call.span.is_recording());
            let others = sampled.filter(|job| job.call.span.kept().as_ref() != Some(&owner));
            others.for_each(|job| job.call.span.add_link(&span));
        }
        span
    }
}

/// A transaction's span, as a child of a sampled call's span; otherwise the call's span itself.
fn transaction(call: &Span) -> Span {
    if !call.is_recording() {
        return call.clone();
    }
    call.child(SpanKind::Internal, || "transaction".into())
}

/// Fails jobs whose transaction may have been committed.
fn unknown(jobs: Vec<Job>, error: &Error) {
    let cause = chain(error);
    for job in jobs {
        job.answer(Err(Error::Unavailable(cause.clone().into())));
    }
}
