//! Errors of MariaDB and MySQL.

use super::class::{Breakage, Class};
use crate::{domain::readiness::Fault, storage::fault};

/// The class of an error number, and the fault of the database if there is one.
pub(super) fn classify(number: u16) -> (Class, Option<Fault>) {
    let fault = fault::mysql(number);
    let class = match number {
        // Record changed since last read; deadlock; certification conflict of a Galera cluster.
        // `NULL` in a column that takes none: a write outside the transaction that it belongs to.
        1020 | 1048 | 1213 => Class::Conflict,
        // Lock wait timeout; statement timeout.
        1205 | 1969 => Class::Locked,
        // Read-only server or transaction.
        1290 | 1792 | 1836 => Class::Unusable(Breakage::ReadOnly),
        // Unknown prepared statement; the statement must be prepared again.
        1243 | 1615 => Class::Unusable(Breakage::Stale),
        // No quorum, shutdown, aborted connection, network, failed commit (as on a Galera node
        // without quorum), connection killed, idle timeout.
        1047 | 1053 | 1152 | 1158..=1161 | 1180 | 1927 | 4031 => Class::Unusable(Breakage::Broken),
        // Too many connections, interrupted.
        1040 | 1203 | 1317 => Class::Unavailable,
        _ => Class::of_fault(fault),
    };
    (class, fault)
}
