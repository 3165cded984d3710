//! Reads rows one by one: an unreadable row does not affect other rows.

use sea_orm::{DbErr, FromQueryResult, QueryResult};

use crate::storage::{failure::Corrupt, unknown::Unreadable};

/// A type that is read from a row of a table.
pub(in crate::storage) trait FromRow: Sized {
    /// The table.
    const TABLE: &'static str;
    /// The columns.
    type Row: FromQueryResult;
    /// The position of a row in a list.
    type Place;

    fn from_row(row: Self::Row) -> Result<Self, Corrupt>;

    /// The position of this row.
    fn place(&self) -> Self::Place;

    /// The position and the id of an unreadable row.
    fn place_of_row(row: &QueryResult) -> Result<(Self::Place, String), DbErr>;

    /// The item that marks an unreadable row in a list; its position if the list leaves it out.
    fn marker(place: Self::Place, _unreadable: &Unreadable) -> Result<Self, Self::Place> {
        Err(place)
    }
}

/// A row, readable or not.
pub(in crate::storage) enum Stored<T: FromRow> {
    Read(T),
    Unreadable(T::Place, Unreadable),
}

impl<T: FromRow> Stored<T> {
    /// The row, or an error that names the unreadable row.
    pub(in crate::storage) fn read(self) -> Result<T, Unreadable> {
        match self {
            Self::Read(read) => Ok(read),
            Self::Unreadable(_, unreadable) => Err(unreadable),
        }
    }

    /// The row. Logs and skips an unreadable row.
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
