//! The classes of database errors.

use crate::domain::readiness::Fault;

/// The class of a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Conflict,
    Locked,
    Unusable(Breakage),
    Unavailable,
    Defect,
}

impl Class {
    /// Corruption is a defect and no outage: the next call may succeed.
    pub(super) fn of_fault(fault: Option<Fault>) -> Self {
        match fault {
            None | Some(Fault::Corrupt) => Self::Defect,
            Some(_) => Self::Unavailable,
        }
    }
}

/// Why a connection is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Breakage {
    /// The connection is broken. Other connections may be broken too, and are checked before use.
    Broken,
    /// Prepared statements are invalid, on this connection and on all other existing connections.
    Stale,
    /// The server is read-only. A new connection may reach a writable server.
    ReadOnly,
}
