//! Why the storage is not ready: the fault that an error reports.

use crate::domain::{
    error::{Cause, Error},
    readiness::{Fault, NotReady},
};

use super::{
    failure::{DatabaseError, source},
    place::Displaced,
};

/// A corruption was found earlier.
#[derive(Debug, thiserror::Error)]
#[error("the database is corrupt: restore it, and restart")]
pub(super) struct Corrupted;

/// A recent update found a full disk.
#[derive(Debug, thiserror::Error)]
#[error("the disk of the database server is full")]
pub(super) struct NoRoom;

/// The storage fault that an error reports, if any.
pub(super) fn fault_of(error: &Error) -> Option<Fault> {
    match error {
        Error::Unavailable(cause) | Error::Internal(cause) => fault_of_cause(cause),
        _ => None,
    }
}

/// The storage fault that a cause reports, if any.
pub(super) fn fault_of_cause(cause: &Cause) -> Option<Fault> {
    if let Some(displaced) = cause.downcast_ref::<Displaced>() {
        return Some(match displaced {
            Displaced::Moved(_) => Fault::FileMoved,
            Displaced::Overwritten(_) => Fault::Corrupt,
        });
    }
    if cause.is::<NoRoom>() {
        return Some(Fault::DiskFull);
    }
    if cause.is::<Corrupted>() {
        return Some(Fault::Corrupt);
    }
    source(cause).downcast_ref::<DatabaseError>().and_then(|error| error.fault)
}

impl From<Error> for NotReady {
    fn from(error: Error) -> Self {
        Self { fault: fault_of(&error).unwrap_or(Fault::NoAnswer), cause: error.into() }
    }
}
