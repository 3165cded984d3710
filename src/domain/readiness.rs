//! Whether the storage can store an update, and which fault prevents it.

use std::fmt;

use super::error::Cause;

/// A fault that keeps the storage from storing updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The schema is not up to date yet.
    NotPrepared,
    /// The database is unreachable, does not answer in time, or answers with another error.
    NoAnswer,
    /// The disk has no room left.
    DiskFull,
    /// The database or the session is read-only.
    ReadOnly,
    /// An I/O error of the system.
    Io,
    /// The files do not hold a valid database.
    Corrupt,
    /// The database's files were moved, deleted or replaced.
    FileMoved,
    /// The database's file cannot be opened.
    CannotOpen,
    /// Another process holds the lock of all writers.
    Locked,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 9] = [
        Self::NotPrepared,
        Self::NoAnswer,
        Self::DiskFull,
        Self::ReadOnly,
        Self::Io,
        Self::Corrupt,
        Self::FileMoved,
        Self::CannotOpen,
        Self::Locked,
    ];

    /// The value of the metric label `cause`.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotPrepared => "not_prepared",
            Self::NoAnswer => "no_answer",
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Io => "io_error",
            Self::Corrupt => "corrupt",
            Self::FileMoved => "file_moved",
            Self::CannotOpen => "cannot_open",
            Self::Locked => "lock_held",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotPrepared => "not prepared",
            Self::NoAnswer => "no answer",
            Self::DiskFull => "disk full",
            Self::ReadOnly => "read-only",
            Self::Io => "I/O error",
            Self::Corrupt => "corrupt",
            Self::FileMoved => "file deleted or replaced",
            Self::CannotOpen => "file cannot be opened",
            Self::Locked => "locked by another process",
        })
    }
}

/// The storage could not store an update.
#[derive(Debug, thiserror::Error)]
#[error("no update can be stored: {fault}")]
pub struct NotReady {
    /// The fault.
    pub fault: Fault,
    /// The error of the database or the system.
    #[source]
    pub cause: Cause,
}
