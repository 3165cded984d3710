//! Maps database error codes to storage faults.

use crate::domain::readiness::Fault;

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
