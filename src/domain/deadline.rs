//! The deadline of the current call. A task-local, like a span.

use std::time::Duration;

use tokio::{
    task_local,
    time::{Instant, error::Elapsed, timeout_at},
};

task_local! {
    static DEADLINE: Instant;
}

/// Runs a call with a timeout.
///
/// # Errors
/// [`Elapsed`] after the timeout. Started work may continue.
pub async fn within<F: Future>(longest: Duration, call: F) -> Result<F::Output, Elapsed> {
    let deadline = Instant::now() + longest;
    DEADLINE.scope(deadline, timeout_at(deadline, call)).await
}

/// Runs a part of a call on another task, with the deadline from [`current`].
pub async fn until<F: Future>(deadline: Option<Instant>, part: F) -> F::Output {
    match deadline {
        Some(deadline) => DEADLINE.scope(deadline, part).await,
        None => part.await,
    }
}

/// The deadline of the current call; `None` outside a call.
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}
