//! The background work for legacy calls: writes the counts of clients and the automatic blocks, and reads
//! the known clients.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{clock::Clock, error::chain, legacy_clients::LegacyClients, service::Service},
    storage::SqlStore,
};

/// Minimum interval between writes of automatic blocks.
const BLOCKS_INTERVAL: Duration = Duration::from_millis(250);
/// Backoff after automatic blocks could not be written.
const BLOCKS_BACKOFF: Duration = Duration::from_millis(500);
/// Maximum interval between checks of the memory of the limits on wrong hashes.
const TIDY_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout for the first read of the known clients. Until then, every client is known.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Backoff after the known clients could not be read at the start.
const READ_BACKOFF: Duration = Duration::from_millis(50);

/// The periodic write of the counts.
#[derive(Clone)]
pub(crate) struct ClientCounts {
    pub(crate) clients: Arc<LegacyClients>,
    pub(crate) store: SqlStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) interval: Duration,
}

impl ClientCounts {
    /// Reads the known clients first. Writes the counts, and reads what other replicas have written,
    /// after each interval, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (begun, mut since) = (Instant::now(), None);
        loop {
            let now = self.clock.now();
            let read = self.clients.read_known(&self.store, since).await;
            let pause = match (&read, since) {
                (Err(_), None) if begun.elapsed() < READ_TIMEOUT => READ_BACKOFF,
                (Err(error), None) => {
                    let error = chain(error);
                    tracing::warn!(
                        error,
                        "the known legacy clients could not be read: all are unknown"
                    );
                    self.clients.known.complete();
                    self.interval
                }
                (Err(error), Some(_)) => {
                    let error = chain(error);
                    tracing::warn!(error, "the known legacy clients could not be read");
                    self.interval
                }
                (Ok(()), _) => {
                    since = Some(now);
                    self.interval
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => self.write().await,
            }
        }
    }

    /// Writes the counts now.
    pub(crate) async fn write(&self) {
        self.clients.write(&self.store).await;
    }
}

/// The writes of automatic blocks.
#[derive(Clone)]
pub(crate) struct BlockWrites(pub(crate) Arc<Service>);

impl BlockWrites {
    /// Writes new blocks, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.guard.has_waiting.notified() => {}
                () = tokio::time::sleep(TIDY_INTERVAL) => {}
            }
            let pause = if self.write().await {
                BLOCKS_INTERVAL
            } else {
                self.0.guard.has_waiting.notify_one();
                BLOCKS_BACKOFF
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Writes the new blocks now. Returns whether that succeeded.
    pub(crate) async fn write(&self) -> bool {
        let stored = self.0.store_blocks().await;
        if let Err(error) = &stored {
            tracing::warn!(error = chain(error), "blocks of legacy calls could not be stored");
        }
        stored.is_ok()
    }
}
