//! Whether the storage can store an update, and what keeps it from that.

use std::fmt;

use super::error::Cause;

/// What keeps the storage from storing updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The schema is not up to date yet.
    NotPrepared,
    /// The database is not reached, does not answer in time, or answers with an error of another kind.
    NoAnswer,
    /// The disk has no room left.
    DiskFull,
    /// The database or the session is read-only.
    ReadOnly,
    /// The system could not read or write.
    Io,
    /// The database's files do not hold a valid database.
    Corrupt,
    /// The database's files are no longer where they were opened.
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

    /// Its value of the label `cause` in metrics.
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
    /// What keeps it from that.
    pub fault: Fault,
    /// What the database or the system says.
    #[source]
    pub cause: Cause,
}
