//! Runs statements that SeaORM has built, on its own connections or on the one of SQLite's writer.

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Statement};

use super::{
    sqlite_row::FromSqliteRow,
    stored::{FromRow, Stored},
};
use crate::storage::unknown::Unreadable;

/// A statement that writes rows.
pub(super) struct Write {
    pub(super) operation: &'static str,
    pub(super) table: &'static str,
    pub(super) statement: Statement,
    /// The expected number of written rows. Any other number means a conflict.
    pub(super) rows: u64,
}

/// A connection, or an open transaction.
pub(in crate::storage) trait Executor: Sync {
    /// Runs a statement. Returns the number of written rows.
    fn execute(&self, statement: Statement) -> impl Future<Output = Result<u64, DbErr>> + Send;

    /// Runs a statement that is not worth preparing.
    fn execute_unprepared(&self, sql: &str) -> impl Future<Output = Result<(), DbErr>> + Send;

    /// Reads all rows.
    fn rows<T>(&self, statement: Statement) -> impl Future<Output = Result<Vec<T>, DbErr>> + Send
    where
        T: FromQueryResult + FromSqliteRow + Send;

    /// Reads all rows of a table. An unreadable row does not affect other rows.
    fn read<T>(
        &self,
        statement: Statement,
    ) -> impl Future<Output = Result<Vec<Result<T, Unreadable>>, DbErr>> + Send
    where
        T: FromRow<Row: FromSqliteRow, Place: Send> + Send;
}

impl<C: ConnectionTrait> Executor for C {
    async fn execute(&self, statement: Statement) -> Result<u64, DbErr> {
        Ok(self.execute_raw(statement).await?.rows_affected())
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<(), DbErr> {
        ConnectionTrait::execute_unprepared(self, sql).await.map(drop)
    }

    async fn rows<T>(&self, statement: Statement) -> Result<Vec<T>, DbErr>
    where
        T: FromQueryResult + FromSqliteRow + Send,
    {
        T::find_by_statement(statement).all(self).await
    }

    async fn read<T>(&self, statement: Statement) -> Result<Vec<Result<T, Unreadable>>, DbErr>
    where
        T: FromRow<Row: FromSqliteRow, Place: Send> + Send,
    {
        let rows = Stored::find_by_statement(statement).all(self).await?;
        Ok(rows.into_iter().map(Stored::read).collect())
    }
}
