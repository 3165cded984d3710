//! Until when the caller of what is under way waits. It goes with the task, as a span does.

use std::time::Duration;

use tokio::{
    task_local,
    time::{Instant, error::Elapsed, timeout_at},
};

task_local! {
    static DEADLINE: Instant;
}

/// Runs a call that may take so long.
///
/// # Errors
/// Where it took longer; what was begun may go on.
pub async fn within<F: Future>(longest: Duration, call: F) -> Result<F::Output, Elapsed> {
    let deadline = Instant::now() + longest;
    DEADLINE.scope(deadline, timeout_at(deadline, call)).await
}

/// The deadline of the call under way; none outside of one.
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}
