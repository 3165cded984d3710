//! Stored values that this version does not know. During a rolling upgrade, a newer version may
//! write such fields, words and settings: they are skipped and counted. A list of users marks an
//! unreadable row, other lists leave it out, and its id is logged.

use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr, sqlx};

use super::failure::Corrupt;
use crate::{
    domain::{
        error::{Cause, Error},
        snapshot::SharedCause,
    },
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
    /// The id and the cause of a row whose id is a number, counted. The row fails its own calls only.
    pub(super) fn shared(self) -> Result<(i64, SharedCause), Self> {
        let Ok(id) = self.id.parse() else { return Err(self) };
        count(self.table, 1);
        Ok((id, Arc::new(self)))
    }

    /// Whether a column holds a value that no field allows, and the column; empty if unknown.
    pub(super) fn column(&self) -> (bool, &str) {
        if let Some(Corrupt(column)) = self.cause.downcast_ref() {
            return (true, column);
        }
        let column = match self.cause.downcast_ref() {
            Some(DbErr::Query(RuntimeErr::SqlxError(error))) => match &**error {
                sqlx::Error::ColumnDecode { index, .. } => index.trim_matches('"'),
                _ => "",
            },
            _ => "",
        };
        (false, column)
    }

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
