//! Puts updates that wait at the same time into one transaction: its round trips and its commit are paid for once.

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
    blocking::transaction::Ahead,
    connect::{Engine, Options, PATIENCE},
    feed::wake,
    repository::Database,
};
use crate::domain::{
    deadline,
    error::{Error, chain},
    update::{Update, Updated},
};
use crate::trace::Span;

/// How many updates one transaction has at most.
const MOST: usize = 32;

/// How much longer than its callers a transaction waits: so they end by their deadline and not by its failure.
const SLACK: Duration = Duration::from_millis(50);

/// An update that waits.
struct Job {
    update: Update,
    now: DateTime<Utc>,
    answer: oneshot::Sender<Result<Updated, Error>>,
    deadline: Option<Instant>,
    span: Span,
    /// Kept until it is answered.
    room: OwnedSemaphorePermit,
}

impl Job {
    /// A caller that has gone is no error. It has room for its next call as soon as it has the answer.
    fn answer(self, outcome: Result<Updated, Error>) {
        let Self { answer, room, .. } = self;
        drop(room);
        let _ = answer.send(outcome);
    }
}

/// Updates that wait to be done together or not at all.
struct Batch {
    updates: Vec<Update>,
    /// On SQLite what was decided ahead.
    ahead: Option<Ahead>,
    now: DateTime<Utc>,
    answer: oneshot::Sender<Result<Vec<Updated>, Error>>,
    deadline: Option<Instant>,
    span: Span,
    /// Kept until it is answered.
    room: OwnedSemaphorePermit,
}

impl Batch {
    /// The updates, as a transaction takes them.
    fn updates(&self) -> Vec<(&Update, DateTime<Utc>)> {
        self.updates.iter().map(|update| (update, self.now)).collect()
    }

    /// A caller that has gone is no error.
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

/// What waits in the queue.
enum Work {
    One(Job),
    All(Batch),
    /// Nothing: it wakes the writer, for a probe.
    Wake,
}

/// Tells whether an update could be stored.
type ProbeAnswer = oneshot::Sender<Result<(), Error>>;

/// The probe that waits for the writer's thread, ahead of all work.
#[derive(Clone, Debug, Default)]
struct Probes(Arc<Mutex<Option<ProbeAnswer>>>);

impl Probes {
    /// Leaves one. One that was left before is given up.
    fn leave(&self, answer: ProbeAnswer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    fn take(&self) -> Option<ProbeAnswer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The updates and the batches among what has waited, without those whose callers have gone.
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

/// The writers' queue. Its bound is the room that each update in it has.
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

    /// Proves that the writers of a database live, and that it would store an update.
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

    /// Applies an update. One whose caller goes away before it is begun is dropped; once begun it is finished.
    pub(super) async fn apply(
        &self,
        update: Update,
        now: DateTime<Utc>,
        room: OwnedSemaphorePermit,
    ) -> Result<Updated, Error> {
        let (answer, answered) = oneshot::channel();
        let job =
            Job { update, now, answer, deadline: deadline::current(), span: Span::current(), room };
        self.queue.send(Work::One(job)).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// Applies updates, all or none, likewise.
    pub(super) async fn apply_all(
        &self,
        updates: Vec<Update>,
        now: DateTime<Utc>,
        ahead: Option<Ahead>,
        room: OwnedSemaphorePermit,
    ) -> Result<Vec<Updated>, Error> {
        let (answer, answered) = oneshot::channel();
        let batch = Batch {
            updates,
            ahead,
            now,
            answer,
            deadline: deadline::current(),
            span: Span::current(),
            room,
        };
        self.queue.send(Work::All(batch)).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// How long a transaction for callers with these deadlines waits for locks, if not as long as usual: none of them waits longer.
pub(super) fn patience(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Duration> {
    let last =
        deadlines.into_iter().try_fold(None, |last, deadline| Some(last.max(Some(deadline?))));
    let patience = last??.saturating_duration_since(Instant::now()) + SLACK;
    (patience < PATIENCE).then_some(patience)
}

/// How long a server takes for a statement at most, unless it is told; see [`super::connect`].
const LONGEST_STATEMENT: Duration = Duration::from_secs(10);

/// How long what the call under way reads may take, if that is less than usual.
pub(super) fn reading_patience() -> Option<Duration> {
    let patience = deadline::current()?.saturating_duration_since(Instant::now()) + SLACK;
    (patience < LONGEST_STATEMENT).then_some(patience)
}

fn ended() -> Error {
    Error::Unavailable("the writer has ended".into())
}

/// A transaction as a trace has it: a span below that of the first of its jobs that is sampled. The other sampled ones link to it.
struct Traced {
    span: Span,
    /// Whose it is; nobody's where none is sampled.
    owner: Option<SpanContext>,
}

impl Traced {
    /// One for jobs, to which more may come.
    fn of<'a>(jobs: impl Iterator<Item = &'a Job>) -> Self {
        let mut first = None;
        for job in jobs {
            let owner = job.span.kept();
            if owner.is_some() {
                return Self { span: transaction(&job.span), owner };
            }
            first.get_or_insert(&job.span);
        }
        Self { span: first.cloned().unwrap_or_default(), owner: None }
    }

    /// Its span, once these are all jobs.
    fn with(self, jobs: &[Job]) -> Span {
        let Self { span, owner } = if self.owner.is_some() { self } else { Self::of(jobs.iter()) };
        if let Some(owner) = owner {
            let sampled = jobs.iter().filter(|job| job.span.is_recording());
            let others = sampled.filter(|job| job.span.kept().as_ref() != Some(&owner));
            others.for_each(|job| job.span.add_link(&span));
        }
        span
    }
}

/// The span of a transaction below that of a call; of one that is not sampled that itself.
fn transaction(call: &Span) -> Span {
    if !call.is_recording() {
        return call.clone();
    }
    call.child(SpanKind::Internal, || "transaction".into())
}

/// Answers jobs whose transaction is not known to have been rolled back.
fn unknown(jobs: Vec<Job>, error: &Error) {
    let cause = chain(error);
    for job in jobs {
        job.answer(Err(Error::Unavailable(cause.clone().into())));
    }
}
