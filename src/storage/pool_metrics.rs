//! Periodic database metrics: the connection pools and the length of the change log.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{SqlStore, connect::Pools, unknown};
use crate::{
    domain::{error::Error, update::EntryPoint},
    fields::FIELDS,
    telemetry::instruments::{Pool, instruments},
    trace::Span,
};

/// Interval of change log measurements.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(60);
/// Backoff after a failed measurement.
const SAMPLE_BACKOFF: Duration = Duration::from_secs(1);

/// Registers the pool metrics, if metrics are enabled.
pub(super) fn observe(pools: &Pools) {
    let Some(instruments) = instruments() else { return };
    // Start every counter at 0: `increase()` misses the first increment of a series that appears
    // late.
    for door in [EntryPoint::Grpc, EntryPoint::Legacy] {
        for field in FIELDS {
            instruments.updates(0, door.as_str(), field.group());
        }
    }
    instruments.hashes_failed(0);
    for table in unknown::TABLES {
        instruments.unknown_values(0, table);
    }
    instruments.connections.timed_out(0, pools.queue.pool);
    let pools = pools.clone();
    instruments.connections.observe(move || {
        let mut states: Vec<_> = pools.states().into_iter().map(state).collect();
        states[0].pending = pools.queue.waiting.load(Ordering::Relaxed);
        states
    });
}

fn state((name, counts): (&'static str, [usize; 3])) -> Pool {
    let [idle, used, most] = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Pool { name, idle, used, most, least: 0, pending: 0 }
}

impl SqlStore {
    /// Measures the change log every minute until `stop`, if metrics are enabled.
    pub async fn measure(self, stop: CancellationToken) {
        let Some(instruments) = instruments() else { return };
        let measure = async {
            loop {
                match self.change_log_length().await {
                    Ok(entries) => {
                        instruments.change_log(entries);
                        sleep(SAMPLE_INTERVAL).await;
                    }
                    // Other tasks detect and log the failure.
                    Err(_) => sleep(SAMPLE_BACKOFF).await,
                }
            }
        };
        stop.run_until_cancelled(measure).await;
    }

    /// The approximate length of the change log: from the oldest id to the newest id.
    async fn change_log_length(&self) -> Result<u64, Error> {
        let database = self.prepared()?;
        let newest = database.newest_changes(&Span::default(), 1).await?.pop();
        let oldest = database.oldest_change().await?;
        let entries = oldest.zip(newest).map_or(0, |(oldest, newest)| newest - oldest + 1);
        Ok(u64::try_from(entries).unwrap_or_default())
    }
}
