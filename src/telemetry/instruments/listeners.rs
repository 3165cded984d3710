//! Metrics of client connections.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};

use crate::telemetry::names;

/// Connection states, in the order of a listener's counts.
const STATES: [&str; 4] = ["idle", "receiving", "active", "closing"];

/// Counts a listener's connections by state; `None` if the listener is gone.
type Count = Box<dyn Fn() -> Option<[usize; 4]> + Send>;
/// The listeners by name.
type Observed = Arc<Mutex<Vec<(&'static str, Count)>>>;

/// The instruments of the listeners.
pub(crate) struct Listeners {
    observed: Observed,
    refused: Counter<u64>,
    closed: Counter<u64>,
}

impl Listeners {
    pub(super) fn new(meter: &Meter) -> Self {
        let observed = Observed::default();
        let look = Arc::clone(&observed);
        meter
            .i64_observable_up_down_counter(names::CONNECTIONS)
            .with_unit("{connection}")
            .with_description("Client connections.")
            .with_callback(move |observer| {
                let listeners = look.lock().unwrap_or_else(PoisonError::into_inner);
                for (listener, count) in listeners.iter() {
                    for (state, count) in STATES.into_iter().zip(count().into_iter().flatten()) {
                        let count = i64::try_from(count).unwrap_or(i64::MAX);
                        let state = KeyValue::new(names::STATE, state);
                        observer.observe(count, &[of_listener(listener), state]);
                    }
                }
            })
            .build();
        let counter = |name, help| {
            meter.u64_counter(name).with_unit("{connection}").with_description(help).build()
        };
        Self {
            observed,
            refused: counter(
                names::CONNECTIONS_REFUSED,
                "New connections that were refused at a limit.",
            ),
            closed: counter(
                names::CONNECTIONS_CLOSED,
                "Connections that the service closed: to make room, after a timeout, or at their age limit.",
            ),
        }
    }

    /// Observes the connections of a listener from now on: idle, receiving, active and closing.
    pub(crate) fn observe(
        &self,
        listener: &'static str,
        refused: impl IntoIterator<Item = &'static str>,
        closed: impl IntoIterator<Item = &'static str>,
        count: impl Fn() -> Option<[usize; 4]> + Send + 'static,
    ) {
        // Start every counter at 0: `increase()` misses the first increment of a series that
        // appears late.
        for reason in refused {
            self.refused.add(0, &of_reason(listener, reason));
        }
        for reason in closed {
            self.closed.add(0, &of_reason(listener, reason));
        }
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        observed.push((listener, Box::new(count)));
    }

    /// A new connection was refused.
    pub(crate) fn refused(&self, listener: &'static str, reason: &'static str) {
        self.refused.add(1, &of_reason(listener, reason));
    }

    /// The service closed a connection.
    pub(crate) fn closed(&self, listener: &'static str, reason: &'static str) {
        self.closed.add(1, &of_reason(listener, reason));
    }
}

fn of_listener(name: &'static str) -> KeyValue {
    KeyValue::new(names::LISTENER, name)
}

fn of_reason(listener: &'static str, reason: &'static str) -> [KeyValue; 2] {
    [of_listener(listener), KeyValue::new(names::REASON, reason)]
}
