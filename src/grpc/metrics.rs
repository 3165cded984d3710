//! Metrics of the storage's readiness, of refused calls and of subscriptions.

use chrono::TimeDelta;

use super::errors;
use crate::{
    domain::{error::Error, readiness::Fault},
    telemetry::instruments::instruments,
};

/// Starts every shed counter at 0, so that `increase()` sees the first increment.
pub(super) fn expect_shed() {
    if let Some(instruments) = instruments() {
        errors::SHED.iter().for_each(|reason| instruments.shed(0, reason));
    }
}

/// Records the readiness of the storage, and the fault that prevents updates.
pub(super) fn ready(fault: Option<Fault>) {
    if let Some(instruments) = instruments() {
        instruments.ready(fault.is_none());
        Fault::ALL
            .into_iter()
            .for_each(|one| instruments.not_ready(fault == Some(one), one.label()));
    }
}

/// Counts a refused legacy call if its hash was incorrect.
pub(super) fn hash_failed(error: &Error) {
    let is_wrong = matches!(error, Error::IncorrectHash | Error::UsernameBlocked);
    if let (true, Some(instruments)) = (is_wrong, instruments()) {
        instruments.hashes_failed(1);
    }
}

/// Counts an open subscription until it is dropped.
pub(super) struct Watcher(());

impl Watcher {
    /// Counts a new subscription.
    pub(super) fn new() -> Self {
        if let Some(instruments) = instruments() {
            instruments.watchers(1);
        }
        Self(())
    }

    /// Records the age of a change log entry that the subscription gets.
    pub(super) fn got(&self, age: impl FnOnce() -> TimeDelta) {
        if let Some(instruments) = instruments() {
            // The age is negative if the clocks of replicas differ.
            instruments.watch_lag(age().to_std().unwrap_or_default());
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(instruments) = instruments() {
            instruments.watchers(-1);
        }
    }
}
