//! Puts updates that wait at the same time into one transaction: its round trips and its commit are paid for once.

use std::{panic::AssertUnwindSafe, sync::Arc};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::sync::{Mutex, OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{Instrument, Span};

use super::{connect::Engine, failure::is_conflict, repository::Database, statements::Lock};
use crate::domain::{
    error::Error,
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

impl Writers {
    /// Starts the writers of a database. They end when the last handle is dropped.
    pub(super) fn start(database: &Arc<Database>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let writers = if database.engine() == Engine::Sqlite { 1 } else { WRITERS };
        for _ in 0..writers {
            tokio::spawn(write(Arc::clone(database), Arc::clone(&receiver)));
        }
        Self(sender)
    }

    /// Applies an update.
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

async fn write(database: Arc<Database>, queue: Arc<Mutex<mpsc::UnboundedReceiver<Job>>>) {
    let mut jobs = Vec::with_capacity(MOST);
    while queue.lock().await.recv_many(&mut jobs, MOST).await > 0 {
        let span = jobs.first().map_or_else(Span::none, |job| job.span.clone());
        let together = together(&database, std::mem::take(&mut jobs)).instrument(span);
        // A panic ends these updates and not the writer.
        if AssertUnwindSafe(together).catch_unwind().await.is_err() {
            tracing::error!("a transaction has panicked");
        }
    }
}

/// Runs updates in one transaction. Those whose users are locked by others, or all of them if the transaction fails, go
/// their own ways: none harms another.
async fn together(database: &Arc<Database>, jobs: Vec<Job>) {
    let updates: Vec<_> = jobs.iter().map(|job| (&job.update, job.now)).collect();
    let outcomes = database.apply(&updates, Lock::Free).await;
    let mut outcomes = outcomes.unwrap_or_default().into_iter();
    for job in jobs {
        match outcomes.next() {
            // Of a row that is locked there is nothing to be seen.
            Some(Err(Error::UserNotFound)) if database.engine() != Engine::Sqlite => {
                alone(database, job);
            }
            Some(outcome) => {
                answer(job.answer, outcome);
                drop(job.room);
            }
            None => alone(database, job),
        }
    }
}

/// Runs an update in a transaction of its own, which waits for its user's lock. In a task: the writer goes on.
fn alone(database: &Arc<Database>, job: Job) {
    let database = Arc::clone(database);
    let Job { update, now, answer: caller, span, room } = job;
    let run = async move {
        let mut attempt = 1;
        let outcome = loop {
            let outcomes = database.apply(&[(&update, now)], Lock::Wait).await;
            match outcomes.map(|mut outcomes| outcomes.remove(0)) {
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS => attempt += 1,
                Err(error) => break Err(error),
                Ok(outcome) => break outcome,
            }
        };
        answer(caller, outcome);
        drop(room);
    };
    tokio::spawn(run.instrument(span));
}

/// A caller that has gone is no error.
fn answer(caller: oneshot::Sender<Result<Updated, Error>>, outcome: Result<Updated, Error>) {
    let _ = caller.send(outcome);
}
