//! Wake-up calls for readers of the change log. Calls may be lost: readers also poll.

use tokio::sync::Notify;

/// Wake-up calls.
#[derive(Debug, Default)]
pub(in crate::storage) struct Wake {
    /// Wakes the reader of this process.
    pub(super) reader: Notify,
    /// Wakes the readers of other replicas.
    pub(super) others: Notify,
}

impl Wake {
    /// Wakes this process and other replicas after a write.
    pub(in crate::storage) fn stored(&self) {
        self.reader.notify_one();
        self.others.notify_one();
    }

    /// Waits for a wake-up call.
    pub(super) async fn called(&self) {
        self.reader.notified().await;
    }
}
