//! Metrics of calls and subscriptions.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;
use tonic::Code;

use super::{
    call::{dropped, is_servers},
    errors,
};
use crate::{
    domain::{error::Error, readiness::Fault},
    proto::code_name,
    telemetry::instruments::{Instruments, instruments},
};

/// The metrics of a call in flight.
pub(super) struct Metered(Option<Counting>);

struct Counting {
    instruments: &'static Instruments,
    method: &'static str,
    begun: Instant,
    is_in_flight: bool,
    has_ended: bool,
}

impl Metered {
    /// Begins a call.
    pub(super) fn begin(method: &'static str, begun: Instant) -> Self {
        Self(instruments().map(|instruments| {
            instruments.call_begins();
            Counting { instruments, method, begun, is_in_flight: true, has_ended: false }
        }))
    }

    /// The stream is open: the call no longer counts as in flight.
    pub(super) fn opened(&mut self) {
        if let Some(counting) = &mut self.0 {
            counting.leave();
        }
    }

    /// Ends the call, with the reasons for its failure and for shedding it, if any.
    pub(super) fn end(
        mut self,
        code: Code,
        failure: Option<&'static str>,
        shed: Option<&'static str>,
        took: Duration,
    ) {
        if let Some(counting) = &mut self.0 {
            counting.ends(code, failure, took);
            if let Some(reason) = shed {
                counting.instruments.shed(1, reason);
            }
        }
    }
}

impl Counting {
    fn leave(&mut self) {
        if std::mem::take(&mut self.is_in_flight) {
            self.instruments.call_ends();
        }
    }

    fn ends(&mut self, code: Code, failure: Option<&'static str>, took: Duration) {
        self.has_ended = true;
        self.leave();
        self.instruments.call(self.method, code_name(code), is_servers(code), took);
        if let Some(outcome) = failure {
            self.instruments.call_failed(self.method, outcome);
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if !self.has_ended {
            let (code, outcome) = dropped();
            self.ends(code, Some(outcome), self.begun.elapsed());
        }
    }
}

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
    if let (Error::IncorrectHash, Some(instruments)) = (error, instruments()) {
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
