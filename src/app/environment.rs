//! The injected environment of the service.

use std::{sync::Arc, time::Duration};

use crate::domain::clock::{Clock, SteadyClock};

/// The clock and the intervals of a service. Tests replace them.
#[derive(Clone)]
pub struct Environment {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The interval between deletions of expired rows.
    pub sweep_interval: Duration,
    /// The interval between writes of the counts of legacy clients.
    pub clients_interval: Duration,
    /// The minimum interval between requests for the JWT key set; `None` for the source's default.
    pub jwks_min_interval: Option<Duration>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            clock: Arc::new(SteadyClock::new()),
            sweep_interval: Duration::from_secs(60),
            clients_interval: Duration::from_secs(10),
            jwks_min_interval: None,
        }
    }
}
