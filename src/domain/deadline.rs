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

/// Runs a part of a call on another task, with the deadline that [`current`] told there.
pub async fn until<F: Future>(deadline: Option<Instant>, part: F) -> F::Output {
    match deadline {
        Some(deadline) => DEADLINE.scope(deadline, part).await,
        None => part.await,
    }
}

/// The deadline of the call under way; none outside of one.
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}
