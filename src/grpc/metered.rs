//! A call as metrics see it.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;
use tonic::Code;

use super::{
    call::{OTHER, is_servers},
    errors,
};
use crate::{
    domain::error::Error,
    proto::code_name,
    telemetry::instruments::{Instruments, instruments},
};

/// A call under way. One that is dropped, as its caller has gone, was cancelled.
pub(super) struct Metered(Option<Call>);

struct Call {
    instruments: &'static Instruments,
    method: &'static str,
    begun: Instant,
    code: Code,
}

impl Metered {
    /// A call begins.
    pub(super) fn begin(method: &'static str, begun: Instant) -> Self {
        Self(instruments().map(|instruments| {
            instruments.call_begins();
            Call { instruments, method, begun, code: Code::Cancelled }
        }))
    }

    /// It has ended.
    pub(super) fn end(mut self, error: Option<&Error>) {
        if let Some(call) = &mut self.0 {
            call.code = errors::code(error);
            if let Some(reason) = error.and_then(errors::shed) {
                call.instruments.shed(reason);
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let (is_servers, took) = (is_servers(self.code), self.begun.elapsed());
        self.instruments.call_ends(self.method, code_name(self.code), is_servers, took);
    }
}

/// A call was answered with this code without a method.
pub(super) fn unserved(code: Code, took: Duration) {
    if let Some(instruments) = instruments() {
        instruments.call_begins();
        instruments.call_ends(OTHER, code_name(code), is_servers(code), took);
    }
}

/// A legacy call was refused; counted if that is for its hash.
pub(super) fn hash_failed(error: &Error) {
    if let (Error::IncorrectHash, Some(instruments)) = (error, instruments()) {
        instruments.hash_failed();
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

    /// It has ended, and why.
    pub(super) fn ended(&self, outcome: &'static str) {
        if let Some(instruments) = instruments() {
            instruments.watch_ended(outcome);
        }
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
