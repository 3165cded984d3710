//! Which codes of a database mean that it cannot store anything, and why.

use crate::domain::{
    error::{Cause, Error},
    readiness::{Fault, NotReady},
};

use super::{
    failure::{DatabaseError, source},
    place::Displaced,
};

/// A corruption was found before.
#[derive(Debug, thiserror::Error)]
#[error("the database is corrupt: restore it, and restart")]
pub(super) struct Corrupted;

/// An update found no room a moment ago.
#[derive(Debug, thiserror::Error)]
#[error("the disk of the database server is full")]
pub(super) struct NoRoom;

/// Of MariaDB and MySQL, by error number. Numbers below 1000 are the system's, as mysys tells them.
pub(super) fn mysql(number: u16) -> Option<Fault> {
    match number {
        // Error writing a file, disk full; a table is full, error writing a file.
        3 | 20 | 1021 | 1026 | 1114 => Some(Fault::DiskFull),
        // read_only, a read-only transaction, innodb_read_only.
        1290 | 1792 | 1836 => Some(Fault::ReadOnly),
        // A file cannot be read or synced; error reading a file, error of the storage engine.
        2 | 27 | 1024 | 1030 => Some(Fault::Io),
        // Incorrect key file, old or crashed key file, crashed table, corrupt index.
        1034 | 1035 | 1194 | 1195 | 1712 => Some(Fault::Corrupt),
        _ => None,
    }
}

/// Of PostgreSQL, by SQLSTATE.
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

/// Of SQLite, by primary result code.
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

/// What an error says of the storage as a whole.
pub(super) fn of(error: &Error) -> Option<Fault> {
    match error {
        Error::Unavailable(cause) | Error::Internal(cause) => of_cause(cause),
        _ => None,
    }
}

/// Likewise what lies under it.
pub(super) fn of_cause(cause: &Cause) -> Option<Fault> {
    if cause.is::<Displaced>() {
        return Some(Fault::FileMoved);
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
