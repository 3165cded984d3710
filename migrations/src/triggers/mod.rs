//! The triggers of `accounts`: rows that others write.
//!
//! The service's own updates set `version` to the next one. An update that leaves `version` as it is
//! comes from another program: its values are checked, it gets the next version, and it is logged.
//!
//! The triggers replace CHECK constraints. MariaDB adds a CHECK only by a copy of the table, SQLite
//! not at all, and PostgreSQL would parse all of them for each update of the service.

mod checks;
mod mysql;
mod postgres;
mod sql;
mod sqlite;

use crate::{details::Detail, step::Trigger};

/// Checks the values of a row that is inserted.
pub(crate) fn checked_insert(details: &[Detail]) -> Trigger {
    Trigger {
        name: "accounts_checked_insert",
        sqlite: sqlite::checked_insert(details),
        postgres: postgres::checked_insert(details),
        mysql: mysql::checked_insert(details),
    }
}

/// Checks the values that another program changes, and logs the change if the account is a user.
pub(crate) fn external_change(details: &[Detail]) -> Trigger {
    Trigger {
        name: "accounts_external_change",
        sqlite: sqlite::external_change(details),
        postgres: postgres::external_change(details),
        mysql: mysql::external_change(details),
    }
}
