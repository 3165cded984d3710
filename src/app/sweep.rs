//! Deletes expired rows of the database.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{clock::Clock, error::chain},
    storage::SqlStore,
};

/// The periodic deletion of expired rows.
pub(crate) struct Sweep {
    pub(crate) store: SqlStore,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long change log entries are kept; `None` keeps them forever.
    pub(crate) keep_log: Option<TimeDelta>,
    pub(crate) interval: Duration,
}

/// Pause of deletions after a clock step: rows that were stored before look older than they are.
const HOLD_AFTER_CLOCK_STEP: Duration = Duration::from_secs(24 * 60 * 60);

impl Sweep {
    /// Deletes expired rows after each interval, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.interval) => {}
            }
            let now = self.clock.now();
            if self.clock.steady_for() < HOLD_AFTER_CLOCK_STEP {
                continue;
            }
            let swept = tokio::select! {
                () = stop.cancelled() => return,
                swept = self.store.sweep(now, self.keep_log) => swept,
            };
            if let Err(error) = swept {
                tracing::warn!(error = chain(&error), "expired rows could not be deleted");
            }
        }
    }
}
