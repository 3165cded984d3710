//! A call as metrics see it.

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

/// A call under way.
pub(super) struct Metered(Option<Counting>);

struct Counting {
    instruments: &'static Instruments,
    method: &'static str,
    begun: Instant,
    is_in_flight: bool,
    has_ended: bool,
}

impl Metered {
    /// A call begins.
    pub(super) fn begin(method: &'static str, begun: Instant) -> Self {
        Self(instruments().map(|instruments| {
            instruments.call_begins();
            Counting { instruments, method, begun, is_in_flight: true, has_ended: false }
        }))
    }

    /// Its stream is open, and goes on.
    pub(super) fn opened(&mut self) {
        if let Some(counting) = &mut self.0 {
            counting.leave();
        }
    }

    /// It has ended, and perhaps failed: why, and whether it was refused as one too many.
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

/// Calls may be shed from now on.
pub(super) fn expect_shed() {
    if let Some(instruments) = instruments() {
        errors::SHED.iter().for_each(|reason| instruments.shed(0, reason));
    }
}

/// What keeps the storage from storing updates, if anything does.
pub(super) fn ready(fault: Option<Fault>) {
    if let Some(instruments) = instruments() {
        instruments.ready(fault.is_none());
        Fault::ALL
            .into_iter()
            .for_each(|one| instruments.not_ready(fault == Some(one), one.label()));
    }
}

/// A legacy call was refused; counted if that is for its hash.
pub(super) fn hash_failed(error: &Error) {
    if let (Error::IncorrectHash, Some(instruments)) = (error, instruments()) {
        instruments.hashes_failed(1);
    }
}

/// One who watches, as long as it is there.
pub(super) struct Watcher(());

impl Watcher {
    /// One watches from now on.
    pub(super) fn new() -> Self {
        if let Some(instruments) = instruments() {
            instruments.watchers(1);
        }
        Self(())
    }

    /// It gets an entry of the change log that is so old.
    pub(super) fn got(&self, age: impl FnOnce() -> TimeDelta) {
        if let Some(instruments) = instruments() {
            // Clocks of replicas differ.
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
