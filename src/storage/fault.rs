//! Maps database error codes to storage faults.

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

/// Faults of MariaDB and MySQL, by error number. Numbers below 1000 are system errors of mysys.
pub(super) fn mysql(number: u16) -> Option<Fault> {
    match number {
        // Write error, full disk (mysys); full disk, write error, full table.
        3 | 20 | 1021 | 1026 | 1114 => Some(Fault::DiskFull),
        // `read_only`, a read-only transaction, `innodb_read_only`.
        1290 | 1792 | 1836 => Some(Fault::ReadOnly),
        // Read error, sync error (mysys); read error, storage engine error.
        2 | 27 | 1024 | 1030 => Some(Fault::Io),
        // Incorrect key file, old or crashed key file, crashed table, corrupt index.
        1034 | 1035 | 1194 | 1195 | 1712 => Some(Fault::Corrupt),
        _ => None,
    }
}

/// Faults of PostgreSQL, by SQLSTATE.
pub(super) fn postgres(code: &str) -> Option<Fault> {
    match code {
        "53100" => Some(Fault::DiskFull),
        "25006" => Some(Fault::ReadOnly),
        "58030" => Some(Fault::Io),
        // Data and index corrupted.
        "XX001" | "XX002" => Some(Fault::Corrupt),
        _ => None,
    }
}

/// Faults of SQLite, by primary result code.
pub(super) fn sqlite(primary: u32) -> Option<Fault> {
    match primary {
        // Busy, locked.
        5 | 6 => Some(Fault::Locked),
        8 => Some(Fault::ReadOnly),
        10 => Some(Fault::Io),
        // Corrupt, and not a database.
        11 | 26 => Some(Fault::Corrupt),
        13 => Some(Fault::DiskFull),
        14 => Some(Fault::CannotOpen),
        _ => None,
    }
}

/// The storage fault that an error reports, if any.
pub(super) fn of(error: &Error) -> Option<Fault> {
    match error {
        Error::Unavailable(cause) | Error::Internal(cause) => of_cause(cause),
        _ => None,
    }
}

/// The storage fault that a cause reports, if any.
pub(super) fn of_cause(cause: &Cause) -> Option<Fault> {
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
        Self { fault: of(&error).unwrap_or(Fault::NoAnswer), cause: error.into() }
    }
}
