//! Puts updates that wait at the same time into one transaction: its round trips and its commit are paid for once.

use std::{panic::AssertUnwindSafe, sync::Arc};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{Instrument, Span};

use super::{connect::Engine, failure::is_conflict, repository::Database, statements::Lock};
use crate::domain::{
    error::{Error, chain},
    update::{Update, Updated},
};

/// How many updates one transaction has at most.
const MOST: usize = 32;
/// How many transactions are under way at once on a server. SQLite has one writer.
const WRITERS: usize = 3;
/// How often a transaction is run that loses against another one.
const ATTEMPTS: u32 = 5;

/// An update that waits.
struct Job {
    update: Update,
    now: DateTime<Utc>,
    answer: oneshot::Sender<Result<Updated, Error>>,
    span: Span,
    /// Kept until it is answered.
    room: OwnedSemaphorePermit,
}

/// The writers' queue. Its bound is the room that each update in it has.
#[derive(Clone, Debug)]
pub(super) struct Writers(mpsc::UnboundedSender<Job>);

/// What the writers of a database share.
struct Shared {
    database: Arc<Database>,
    queue: Mutex<mpsc::UnboundedReceiver<Job>>,
    /// For the updates that go their own way: they wait for locks, and must leave connections to the others.
    lone: Arc<Semaphore>,
}

impl Writers {
    /// Starts the writers of a database with so many connections. They end when the last handle is dropped.
    pub(super) fn start(database: &Arc<Database>, connections: u32) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let lone = usize::try_from(connections / 4).unwrap_or(1).max(1);
        let shared = Arc::new(Shared {
            database: Arc::clone(database),
            queue: Mutex::new(receiver),
            lone: Arc::new(Semaphore::new(lone)),
        });
        let writers = if database.engine() == Engine::Sqlite { 1 } else { WRITERS };
        for _ in 0..writers {
            tokio::spawn(write(Arc::clone(&shared)));
        }
        Self(sender)
    }

    /// Applies an update. One whose caller goes away before it is begun is dropped; once begun it is finished.
    pub(super) async fn apply(
        &self,
        update: Update,
        now: DateTime<Utc>,
        room: OwnedSemaphorePermit,
    ) -> Result<Updated, Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job { update, now, answer, span: Span::current(), room };
        let ended = || Error::Unavailable("the writer has ended".into());
        self.0.send(job).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

async fn write(shared: Arc<Shared>) {
    let mut jobs = Vec::with_capacity(MOST);
    while shared.queue.lock().await.recv_many(&mut jobs, MOST).await > 0 {
        jobs.retain(|job| !job.answer.is_closed());
        let Some(first) = jobs.first().map(|job| job.span.clone()) else { continue };
        for job in jobs.iter().skip(1) {
            job.span.follows_from(&first);
        }
        let together = together(&shared, std::mem::take(&mut jobs)).instrument(first);
        // A panic ends these updates and not the writer.
        if AssertUnwindSafe(together).catch_unwind().await.is_err() {
            tracing::error!("a transaction has panicked");
        }
    }
}

/// Runs updates in one transaction, and answers them. Those whose users are locked by others, or all of them if it was
/// certainly rolled back for what one of them did, go their own ways: none harms another.
async fn together(shared: &Arc<Shared>, jobs: Vec<Job>) {
    let updates: Vec<_> = jobs.iter().map(|job| (&job.update, job.now)).collect();
    let outcomes = match shared.database.apply(&updates, Lock::Free).await {
        Ok(outcomes) => outcomes,
        Err(failure) if failure.may_be_repeated() => {
            return jobs.into_iter().for_each(|job| alone(shared, job));
        }
        Err(failure) => {
            let cause = chain(&failure.error);
            for job in jobs {
                answer(job.answer, Err(Error::Unavailable(cause.clone().into())));
            }
            return;
        }
    };
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        match outcome {
            // Of a row that is locked there is nothing to be seen.
            Err(Error::UserNotFound) if shared.database.engine() != Engine::Sqlite => {
                alone(shared, job);
            }
            outcome => answer(job.answer, outcome),
        }
    }
}

/// Runs an update in a transaction of its own, which waits for its user's lock. In a task: the writer goes on.
fn alone(shared: &Arc<Shared>, job: Job) {
    let shared = Arc::clone(shared);
    let Job { update, now, answer: mut caller, span, room } = job;
    let run = async move {
        let connection = tokio::select! {
            () = caller.closed() => return,
            connection = Arc::clone(&shared.lone).acquire_owned() => connection,
        };
        let mut attempt = 1;
        let outcome = loop {
            if caller.is_closed() {
                return;
            }
            let outcomes = shared.database.apply(&[(&update, now)], Lock::Wait).await;
            match outcomes.map(|mut outcomes| outcomes.remove(0)) {
                Err(failure) if is_conflict(&failure.error) && attempt < ATTEMPTS => attempt += 1,
                Err(failure) => break Err(failure.error),
                Ok(outcome) => break outcome,
            }
        };
        answer(caller, outcome);
        drop((connection, room));
    };
    tokio::spawn(run.instrument(span));
}

/// A caller that has gone is no error.
fn answer(caller: oneshot::Sender<Result<Updated, Error>>, outcome: Result<Updated, Error>) {
    let _ = caller.send(outcome);
}
