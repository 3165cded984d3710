//! Rows that are read one by one: a row that this version cannot read harms no other row.

use super::sea_orm::{DbErr, FromQueryResult, QueryResult};
use crate::storage::{failure::Corrupt, unknown::Unreadable};

/// What a row of a table is read as.
pub(in crate::storage) trait FromRow: Sized {
    /// The table.
    const TABLE: &'static str;
    /// The columns.
    type Row: FromQueryResult;
    /// The position of a row in a list.
    type Place;

    fn from_row(row: Self::Row) -> Result<Self, Corrupt>;

    /// The position of a row that was read.
    fn place(&self) -> Self::Place;

    /// The position and the id of a row that cannot be read.
    fn place_of_row(row: &QueryResult) -> Result<(Self::Place, String), DbErr>;
}

/// A row, if it can be read.
pub(in crate::storage) enum Stored<T: FromRow> {
    Read(T),
    Unreadable(T::Place, Unreadable),
}

impl<T: FromRow> Stored<T> {
    /// What was read; an error that names the row where it cannot be read.
    pub(in crate::storage) fn read(self) -> Result<T, Unreadable> {
        match self {
            Self::Read(read) => Ok(read),
            Self::Unreadable(_, unreadable) => Err(unreadable),
        }
    }

    /// What was read; a row that cannot be read is logged and left out.
    pub(in crate::storage) fn read_or_leave_out(self) -> Option<T> {
        self.read().inspect_err(Unreadable::left_out).ok()
    }
}

impl<T: FromRow> FromQueryResult for Stored<T> {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let cause = match T::Row::from_query_result(row, prefix).map(T::from_row) {
            Ok(Ok(read)) => return Ok(Self::Read(read)),
            Ok(Err(corrupt)) => corrupt.into(),
            Err(failure) => failure.into(),
        };
        let (place, id) = T::place_of_row(row)?;
        Ok(Self::Unreadable(place, Unreadable { table: T::TABLE, id, cause }))
    }
}
