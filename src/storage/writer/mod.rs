//! Puts updates that wait at the same time into one transaction: its round trips and its commit are paid for once.

mod servers;
mod sqlite;

pub(super) use servers::writing;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::Span;

use super::{
    connect::{Engine, Options},
    repository::Database,
};
use crate::domain::{
    error::{Error, chain},
    update::{Update, Updated},
};

/// How many updates one transaction has at most.
const MOST: usize = 32;

/// An update that waits.
struct Job {
    update: Update,
    now: DateTime<Utc>,
    answer: oneshot::Sender<Result<Updated, Error>>,
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

/// The writers' queue. Its bound is the room that each update in it has.
#[derive(Clone, Debug)]
pub(super) struct Writers(mpsc::UnboundedSender<Job>);

impl Writers {
    /// Starts the writers of a database. They end when the last handle is dropped.
    pub(super) fn start(database: &Arc<Database>, options: &Options) -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        match database.engine() {
            Engine::Sqlite => sqlite::start(queue, options.clone()),
            Engine::Postgres | Engine::MySql => {
                servers::start(queue, Arc::clone(database), options.max_connections);
            }
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

/// Leaves out the jobs whose callers have gone. The span in which the others are run is the first one's; the others link to
/// it. None where no job is left.
fn gather(jobs: &mut Vec<Job>) -> Option<Span> {
    jobs.retain(|job| !job.answer.is_closed());
    let (first, others) = jobs.split_first()?;
    for job in others {
        job.span.follows_from(&first.span);
    }
    Some(first.span.clone())
}

/// Answers jobs whose transaction is not known to have been rolled back.
fn unknown(jobs: Vec<Job>, error: &Error) {
    let cause = chain(error);
    for job in jobs {
        job.answer(Err(Error::Unavailable(cause.clone().into())));
    }
}
