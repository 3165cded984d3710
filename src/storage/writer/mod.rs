//! Groups queued updates into one transaction, which saves round trips and commits.

mod gathering;
mod queue;
mod servers;
mod sqlite;
mod traced;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use self::queue::{Batch, Job, Probes, Work};
use super::{
    connect::{Engine, Options},
    database::Database,
    feed::notify,
};
use crate::domain::{
    call_context::CallContext,
    error::Error,
    update::{Update, Updated},
};

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
                notify::start(database);
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

    /// Applies an update. Cancelling the call has no effect after the transaction has begun.
    pub(super) async fn apply(
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

fn ended() -> Error {
    Error::Unavailable("the writer has ended".into())
}
