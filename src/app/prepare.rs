//! Prepares the database of a started application.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::RunError;
use crate::{
    domain::error::chain,
    storage::{OpenError, SqlStore},
};

/// Backoff after the database could not be prepared.
const PREPARE_BACKOFF: Duration = Duration::from_secs(1);

/// Prepares the database; retries while the database does not answer.
pub(super) async fn prepare(
    store: SqlStore,
    demo: bool,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let mut refused = false;
    loop {
        let prepared = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            prepared = store.prepare(demo) => prepared,
        };
        match prepared {
            Ok(()) => {
                let durability = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    durability = store.durability() => durability,
                };
                if let Ok(settings) = durability {
                    let settings = settings.iter().map(|(name, value)| format!("{name}={value}"));
                    let durability = settings.collect::<Vec<_>>().join(", ");
                    let engine = store.engine().semantic_name();
                    tracing::info!(engine, durability, "the database is prepared");
                }
                return Ok(());
            }
            Err(error) if error.may_pass() => {
                tracing::error!(
                    error = chain(&error),
                    "the database could not be prepared; retrying"
                );
            }
            // Retry until an operator restores an older database, but log once.
            Err(error @ OpenError::Newer { .. }) if refused => {
                tracing::debug!(error = chain(&error), "the schema is still refused");
            }
            Err(error @ OpenError::Newer { .. }) => {
                tracing::error!(error = chain(&error), "the schema is refused");
                refused = true;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PREPARE_BACKOFF) => {}
        }
    }
}
