//! Lock and statement timeouts until the deadlines of calls.

use std::time::Duration;

use tokio::time::Instant;

use super::connect::ACQUIRE_TIMEOUT;

/// Slack after the last deadline: callers see their deadline and not a lock timeout.
const SLACK: Duration = Duration::from_millis(50);

/// The lock timeout for callers with these deadlines, if shorter than the default.
pub(super) fn patience(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Duration> {
    let last =
        deadlines.into_iter().try_fold(None, |last, deadline| Some(last.max(Some(deadline?))));
    let patience = last??.saturating_duration_since(Instant::now()) + SLACK;
    (patience < ACQUIRE_TIMEOUT).then_some(patience)
}

/// The default statement timeout on a server; see [`super::connect`].
const LONGEST_STATEMENT: Duration = Duration::from_secs(10);

/// The statement timeout for reads until a deadline, if shorter than the default.
pub(super) fn reading_patience(deadline: Option<Instant>) -> Option<Duration> {
    let patience = deadline?.saturating_duration_since(Instant::now()) + SLACK;
    (patience < LONGEST_STATEMENT).then_some(patience)
}
