//! Waits for the parts and the calls of a stopped application.

use std::time::Duration;

use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    error::RunError,
    legacy_clients::{BlockWrites, ClientCounts},
};
use crate::storage::SqlStore;

/// How long connections may stay open after the last response.
const LAST_RESPONSE_TIME: Duration = Duration::from_millis(500);
/// Timeout for closing the database connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Minimum time for the storage to finish, even with a shorter drain deadline.
const MIN_FINISH_TIME: Duration = Duration::from_millis(500);

/// Waits until every part has ended or every call is answered.
pub(super) async fn drain(
    parts: &mut JoinSet<Result<(), RunError>>,
    calls: &TaskTracker,
) -> Result<(), RunError> {
    let ended = async {
        while let Some(ended) = parts.join_next().await {
            flatten(ended)?;
        }
        Ok(())
    };
    // An idle connection does not end while its client is silent.
    let answered = async {
        loop {
            calls.wait().await;
            tokio::time::sleep(LAST_RESPONSE_TIME).await;
            // A client may send a call before it sees the shutdown.
            if calls.is_empty() {
                break;
            }
        }
    };
    tokio::select! {
        ended = ended => ended,
        () = answered => Ok(()),
    }
}

/// Writes what legacy calls left to write, waits for the storage until the deadline, and closes it.
///
/// # Errors
/// [`RunError::NotDrained`] if the storage has not finished its updates.
pub(super) async fn finish(
    store: SqlStore,
    clients: &ClientCounts,
    blocks: &BlockWrites,
    deadline: Instant,
) -> Result<(), RunError> {
    let last = async { tokio::join!(clients.write(), blocks.write()) };
    if timeout(MIN_FINISH_TIME, last).await.is_err() {
        tracing::warn!("not all legacy clients and blocks could be stored");
    }
    let deadline = deadline.max(Instant::now() + MIN_FINISH_TIME);
    let finished = timeout_at(deadline, store.finish()).await;
    // An unresponsive database does not close its connections either.
    let _ = timeout_at(deadline.min(Instant::now() + CLOSE_TIMEOUT), store.close()).await;
    finished.map_err(|_| RunError::NotDrained)
}

/// The result of a part.
pub(super) fn flatten(ended: Result<Result<(), RunError>, JoinError>) -> Result<(), RunError> {
    ended.map_err(|panicked| RunError::Failed(panicked.into()))?
}
