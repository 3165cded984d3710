//! The metric of the change log's length.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::store::SqlStore;
use crate::{domain::error::Error, telemetry::instruments::instruments, trace::Span};

/// Interval of change log measurements.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(60);
/// Backoff after a failed measurement.
const SAMPLE_BACKOFF: Duration = Duration::from_secs(1);

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

    /// The approximate length of the change log: from the oldest id to the newest id,
    /// without the jumps of epochs.
    async fn change_log_length(&self) -> Result<u64, Error> {
        let database = self.prepared()?;
        let newest = database.newest_changes(&Span::default(), 1).await?.pop();
        let oldest = database.oldest_change().await?;
        let Some((oldest, newest)) = oldest.zip(newest) else { return Ok(0) };
        let jumps = database.epochs(&Span::default()).await?.into_iter();
        let jumps = jumps.filter(|epoch| epoch.last_change_id >= oldest);
        let jumps = jumps.map(|epoch| epoch.first_change_id.min(newest) - epoch.last_change_id - 1);
        let entries = newest - oldest + 1 - jumps.sum::<i64>();
        Ok(u64::try_from(entries).unwrap_or_default())
    }
}
