//! The connection options.

use std::{fmt, time::Duration};

use super::engine::Engine;

/// Timeout for locks, and for acquiring a connection.
pub(in crate::storage) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection options.
#[derive(Clone)]
pub struct Options {
    /// `sqlite://FILE`, `postgres://…` or `mysql://…`. May hold a password.
    pub url: String,
    /// Maximum number of connections, at least 1. SQLite uses up to 4 for reads, and 1 for writes.
    pub max_connections: u32,
    /// Maximum number of concurrent calls, at least 1. Further calls are refused.
    pub max_in_flight: usize,
    /// Maximum time that updates on a server wait to share the next transaction. The wait ends once
    /// as many updates wait as the open transaction has.
    pub gather: Duration,
    /// Interval between PostgreSQL snapshots while ids of the change log are missing.
    pub snapshot_interval: Duration,
}

impl Options {
    /// The default options for a database URL.
    pub fn of(url: String) -> Self {
        Self {
            url,
            max_connections: 10,
            max_in_flight: 1024,
            gather: Duration::from_millis(2),
            snapshot_interval: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for Options {
    /// Without the URL, which may hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = Engine::from_url(&self.url);
        formatter.debug_struct("Options").field("engine", &engine).finish_non_exhaustive()
    }
}
