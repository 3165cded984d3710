//! The byte budgets of the application, as metrics.

use std::sync::Arc;

use crate::{
    budget::MemoryBudget,
    domain::watch::{ENTRIES_LIMIT, RESPONSES_LIMIT, WatchBudget},
    telemetry::instruments::{Budget, instruments},
};

/// Registers the metrics of the byte budgets.
pub(super) fn observe(messages: &Arc<MemoryBudget>, watches: Option<&Arc<WatchBudget>>) {
    let Some(instruments) = instruments() else { return };
    let (messages, watches) = (Arc::clone(messages), watches.cloned());
    instruments.observe_budgets(move || {
        let budget = |name, used, limit| Budget { name, used, limit };
        let mut budgets = vec![budget("messages", messages.used(), messages.limit())];
        if let Some(watches) = &watches {
            budgets.push(budget("watch_entries", watches.entries_used(), ENTRIES_LIMIT));
            budgets.push(budget("watch_responses", watches.responses_used(), RESPONSES_LIMIT));
        }
        budgets
    });
}
