//! Tables of ids and names.

use std::collections::BTreeMap;

use sea_orm::{
    DbErr, QueryResult, StatementBuilder,
    sea_query::{Expr, ExprTrait, Order, Query},
};

use super::{NAMED_ROWS_PER_INSERT, RowInsert, ranges};
use crate::{
    domain::{
        error::Error,
        imported::{Clash, NamedRow, NamedTable},
    },
    storage::{SqlStore, sql::statements::padded, texts::backend},
};

impl SqlStore {
    /// The rows with these ids or names: their names by id.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn named_rows(
        &self,
        table: NamedTable,
        ids: &[i64],
        names: &[String],
    ) -> Result<BTreeMap<i64, String>, Error> {
        if ids.is_empty() && names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let with = Expr::col("id").is_in(padded(ids.iter().copied()));
        let with = if names.is_empty() {
            with
        } else {
            with.or(Expr::col("name").is_in(padded(names.iter().map(String::as_str))))
        };
        let mut select = Query::select();
        select.columns(["id", "name"]).from(table.as_str()).and_where(with);
        let select = StatementBuilder::build(&select, &backend(self.engine()));
        let rows = self.rows(table.as_str(), select).await?;
        let row = |row: QueryResult| -> Result<_, DbErr> {
            Ok((row.try_get("", "id")?, row.try_get("", "name")?))
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, _>>()?)
    }

    /// Inserts rows. Returns the refused rows by index.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn insert_named_rows(
        &self,
        table: NamedTable,
        rows: &[NamedRow],
    ) -> Result<Vec<(usize, Clash)>, Error> {
        let insert = |rows: &[NamedRow]| {
            let mut insert = Query::insert();
            insert.into_table(table.as_str()).columns(["id", "name"]);
            for row in rows {
                let values = [row.id.into(), row.name.as_str().into()];
                insert.values(values).map_err(|error| Error::Internal(error.into()))?;
            }
            let insert = StatementBuilder::build(&insert, &backend(self.engine()));
            Ok(RowInsert::Statement(insert))
        };
        let ranges = ranges(rows, (NAMED_ROWS_PER_INSERT, usize::MAX), |_| 0);
        self.insert_all(table.as_str(), rows, ranges, insert).await
    }

    /// Ids above `after` in the table `accounts` or a [`NamedTable`], in order.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn ids_after(
        &self,
        table: &'static str,
        after: i64,
        limit: u64,
    ) -> Result<Vec<i64>, Error> {
        let mut select = Query::select();
        let select = select.column("id").from(table).and_where(Expr::col("id").gt(after));
        let select = select.order_by("id", Order::Asc).limit(limit);
        let select = StatementBuilder::build(&*select, &backend(self.engine()));
        let rows = self.rows(table, select).await?;
        let id = |row: QueryResult| row.try_get("", "id");
        Ok(rows.into_iter().map(id).collect::<Result<_, DbErr>>()?)
    }
}
