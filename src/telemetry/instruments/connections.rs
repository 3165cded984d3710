//! Metrics of database connection pools.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};

use super::{
    kept::{Histograms, Name},
    statements::DURATIONS,
};
use crate::telemetry::names;

/// The instruments of connection pools.
pub(crate) struct Connections {
    meter: Meter,
    /// By pool.
    waited: Histograms<Name>,
    used: Histograms<Name>,
    timeouts: Counter<u64>,
}

impl Connections {
    pub(super) fn new(meter: &Meter) -> Self {
        let seconds = |name, help| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(help);
            Histograms::new(histogram.with_boundaries(DURATIONS.to_vec()).build())
        };
        Self {
            meter: meter.clone(),
            waited: seconds(
                names::DB_CLIENT_CONNECTION_WAIT_TIME,
                "Wait for a database connection.",
            ),
            used: seconds(names::DB_CLIENT_CONNECTION_USE_TIME, "Use of a database connection."),
            timeouts: meter
                .u64_counter(names::DB_CLIENT_CONNECTION_TIMEOUTS)
                .with_unit("{timeout}")
                .with_description("Timeouts while waiting for a free database connection.")
                .build(),
        }
    }

    /// Records the time to acquire a connection.
    pub(crate) fn waited(&self, pool: &'static str, took: Duration) {
        let attributes = || vec![of_pool(pool)];
        self.waited.record(Name(pool), took.as_secs_f64(), attributes);
    }

    /// Records the use of a released connection.
    pub(crate) fn used(&self, pool: &'static str, took: Duration) {
        let attributes = || vec![of_pool(pool)];
        self.used.record(Name(pool), took.as_secs_f64(), attributes);
    }

    /// Counts acquire timeouts.
    pub(crate) fn timed_out(&self, times: u64, pool: &'static str) {
        self.timeouts.add(times, &[of_pool(pool)]);
    }

    /// Observes connection pools at each collection.
    pub(crate) fn observe(&self, look: impl Fn() -> Vec<Pool> + Send + Sync + 'static) {
        let look = Arc::new(look);
        let pools = Arc::clone(&look);
        let count = self.meter.i64_observable_up_down_counter(names::DB_CLIENT_CONNECTION_COUNT);
        count
            .with_unit("{connection}")
            .with_description("Database connections.")
            .with_callback(move |observer| {
                for pool in pools() {
                    for (state, count) in [("idle", pool.idle), ("used", pool.used)] {
                        let state = KeyValue::new(names::DB_CLIENT_CONNECTION_STATE, state);
                        observer.observe(count, &[of_pool(pool.name), state]);
                    }
                }
            })
            .build();
        let observed = |name, unit, help, of: fn(&Pool) -> i64| {
            let pools = Arc::clone(&look);
            let observed = self.meter.i64_observable_up_down_counter(name);
            observed
                .with_unit(unit)
                .with_description(help)
                .with_callback(move |observer| {
                    for pool in pools() {
                        observer.observe(of(&pool), &[of_pool(pool.name)]);
                    }
                })
                .build();
        };
        let most = "Maximum number of database connections.";
        observed(names::DB_CLIENT_CONNECTION_MAX, "{connection}", most, |pool| pool.most);
        let idle = "Maximum number of idle database connections.";
        observed(names::DB_CLIENT_CONNECTION_IDLE_MAX, "{connection}", idle, |pool| pool.most);
        let ready = "Database connections that are opened in advance.";
        observed(names::DB_CLIENT_CONNECTION_IDLE_MIN, "{connection}", ready, |pool| pool.least);
        let pending = "Callers that wait for a database connection.";
        observed(names::DB_CLIENT_CONNECTION_PENDING_REQUESTS, "{request}", pending, |pool| {
            pool.pending
        });
    }
}

fn of_pool(name: &'static str) -> KeyValue {
    KeyValue::new(names::DB_CLIENT_CONNECTION_POOL_NAME, name)
}

/// The state of a connection pool.
pub(crate) struct Pool {
    /// The pool's name.
    pub(crate) name: &'static str,
    /// Idle connections.
    pub(crate) idle: i64,
    /// Used connections.
    pub(crate) used: i64,
    /// Maximum number of connections.
    pub(crate) most: i64,
    /// Minimum number of connections.
    pub(crate) least: i64,
    /// Requests that wait for a connection.
    pub(crate) pending: i64,
}
