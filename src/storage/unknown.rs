//! Stored values that this version does not know. During a rolling upgrade, a newer version may
//! write such fields, words and settings: they are skipped and counted. Lists leave out an
//! unreadable row, and its id is logged.

use crate::{
    domain::error::{Cause, Error},
    telemetry::instruments::instruments,
};

/// The tables whose values are counted.
pub(super) const TABLES: [&str; 8] = [
    "accounts",
    "change_log",
    "legacy_blocks",
    "legacy_keys",
    "manager_group_rights",
    "requests",
    "service_tokens",
    "settings",
];

/// Counts skipped values.
pub(super) fn count(table: &'static str, values: usize) {
    if values > 0
        && let Some(instruments) = instruments()
    {
        instruments.unknown_values(u64::try_from(values).unwrap_or(u64::MAX), table);
    }
}

/// A row with a value that no version of this service writes.
#[derive(Debug, thiserror::Error)]
#[error("the row {id} of the table {table} cannot be read")]
pub(super) struct Unreadable {
    pub(super) table: &'static str,
    pub(super) id: String,
    #[source]
    pub(super) cause: Cause,
}

impl Unreadable {
    /// Logs and counts a row that is left out.
    pub(super) fn left_out(&self) {
        count(self.table, 1);
        let Self { table, id, cause } = self;
        tracing::error!(table, id, %cause, "a stored row cannot be read and is left out");
    }
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        count(unreadable.table, 1);
        Self::Internal(unreadable.into())
    }
}
