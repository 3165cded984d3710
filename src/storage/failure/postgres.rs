//! Errors of PostgreSQL.

use super::class::{Breakage, Class};
use crate::{domain::readiness::Fault, storage::fault};

/// The class of a SQLSTATE, and the fault of the database if there is one.
pub(super) fn classify(code: &str) -> (Class, Option<Fault>) {
    let class = match code {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Class::Conflict,
        // Lock not available; query canceled by the statement timeout.
        "55P03" | "57014" => Class::Locked,
        // Read-only transaction: a standby.
        "25006" => Class::Unusable(Breakage::ReadOnly),
        // Cached plan with a changed result type; unknown or duplicate prepared statement.
        "0A000" | "26000" | "42P05" => Class::Unusable(Breakage::Stale),
        // Shutdown, kill, crash, startup, dropped database, idle timeouts; 08: connection.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" => {
            Class::Unusable(Breakage::Broken)
        }
        _ if code.starts_with("08") => Class::Unusable(Breakage::Broken),
        // Resources, operator intervention, system.
        _ if ["53", "57", "58"].iter().any(|class| code.starts_with(class)) => Class::Unavailable,
        _ => Class::Defect,
    };
    (class, fault::postgres(code))
}
