//! Waits for the parts and the calls of a stopped application.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::task::TaskTracker;

use super::error::RunError;

/// How long connections may stay open after the last response.
const LAST_RESPONSE_TIME: Duration = Duration::from_millis(500);

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

/// The result of a part.
pub(super) fn flatten(ended: Result<Result<(), RunError>, JoinError>) -> Result<(), RunError> {
    ended.map_err(|panicked| RunError::Failed(panicked.into()))?
}
