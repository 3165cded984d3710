//! Writes the counts of legacy clients.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{domain::legacy_clients::LegacyClients, storage::SqlStore};

/// The periodic write of the counts.
#[derive(Clone)]
pub(crate) struct ClientCounts {
    pub(crate) clients: Arc<LegacyClients>,
    pub(crate) store: SqlStore,
    pub(crate) interval: Duration,
}

impl ClientCounts {
    /// Writes after each interval, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.interval) => self.write().await,
            }
        }
    }

    /// Writes the counts now.
    pub(crate) async fn write(&self) {
        self.clients.write(&self.store).await;
    }
}
