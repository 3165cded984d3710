//! Metrics of the byte budgets.

use std::sync::Arc;

use opentelemetry::KeyValue;

use super::Instruments;
use crate::telemetry::names;

/// A byte budget.
pub(crate) struct Budget {
    /// The budget's name.
    pub(crate) name: &'static str,
    /// Bytes in use.
    pub(crate) used: usize,
    /// Maximum number of bytes.
    pub(crate) limit: usize,
}

impl Instruments {
    /// Observes byte budgets at each collection.
    pub(crate) fn observe_budgets(&self, look: impl Fn() -> Vec<Budget> + Send + Sync + 'static) {
        let look = Arc::new(look);
        let observed = |name, help, of: fn(&Budget) -> usize| {
            let look = Arc::clone(&look);
            let observed = self.meter.i64_observable_up_down_counter(name);
            observed
                .with_unit("By")
                .with_description(help)
                .with_callback(move |observer| {
                    for budget in look() {
                        let bytes = i64::try_from(of(&budget)).unwrap_or(i64::MAX);
                        observer.observe(bytes, &[KeyValue::new(names::BUDGET, budget.name)]);
                    }
                })
                .build();
        };
        let usage = "Bytes of a budget in use.";
        observed(names::MEMORY_BUDGET_USAGE, usage, |budget| budget.used);
        let limit = "Size of a budget, in bytes.";
        observed(names::MEMORY_BUDGET_LIMIT, limit, |budget| budget.limit);
    }
}
