//! Errors of SQLite.

use super::class::Class;
use crate::{domain::readiness::Fault, storage::fault};

/// The class of an extended result code, and the fault of the database if there is one.
pub(super) fn classify(code: &str) -> (Class, Option<Fault>) {
    // The low byte of an extended code is the primary code.
    let primary = code.parse::<u32>().ok().map(|code| code & 0xff);
    let fault = primary.and_then(fault::sqlite);
    (Class::of_fault(fault), fault)
}
