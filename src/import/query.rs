//! Rows of a query to a database.

use super::{
    cell::{Cell, Record},
    error::ImportError,
    mapping::Encoding,
    table::{Column, Table},
};
use crate::storage::{SourceDatabase, SourceError};

/// A query. Pages follow each other by id, so no transaction stays open.
pub(super) struct Query<'a> {
    database: &'a SourceDatabase,
    table: Table,
    select: &'a str,
    encoding: Encoding,
    names: Vec<String>,
    pub(super) columns: Vec<Column>,
    pub(super) total: u64,
    pub(super) rows: i64,
    after: Option<i64>,
    has_ended: bool,
}

impl<'a> Query<'a> {
    pub(super) async fn open(
        table: Table,
        database: &'a SourceDatabase,
        select: &'a str,
        encoding: Encoding,
    ) -> Result<Self, ImportError> {
        let name = table.as_str();
        let select = select.trim().trim_end_matches(';');
        let fails = |error| ImportError::Source { table: name, error };
        let names = database.columns(select).await.map_err(fails)?;
        let total = database.count(select).await.map_err(fails)?;
        // Without rows, a database does not tell the columns.
        let has_ended = names.is_empty();
        let columns = if has_ended { Ok(Vec::new()) } else { table.columns(&names) };
        let columns = columns.map_err(|problem| ImportError::Columns { table: name, problem })?;
        let (rows, after) = (0, None);
        Ok(Self {
            database,
            table,
            select,
            encoding,
            names,
            columns,
            total,
            rows,
            after,
            has_ended,
        })
    }

    /// At most `limit` rows; none at the end. Rights of groups have no id and are few: all at once.
    pub(super) async fn next(&mut self, limit: usize) -> Result<Vec<Record>, ImportError> {
        if self.has_ended {
            return Ok(Vec::new());
        }
        let query = (self.select, &*self.names, self.encoding == Encoding::Latin1);
        let id = self.columns.iter().position(|column| *column == Column::Id);
        let rows = match id {
            Some(_) => self.database.page(query, self.after, limit).await,
            None => self.database.all(query).await,
        };
        let fails = |error| ImportError::Source { table: self.table.as_str(), error };
        let rows = rows.map_err(fails)?;
        self.has_ended = id.is_none() || rows.len() < limit;
        if let (Some(id), Some(last)) = (id, rows.last()) {
            let last = last[id].as_deref().and_then(|id| str::from_utf8(id).ok()?.parse().ok());
            let problem = || SourceError::Query("the column id must be an integer".to_owned());
            self.after = Some(last.ok_or_else(problem).map_err(fails)?);
        }
        let encoding = self.encoding;
        let record = |row: Vec<Option<Vec<u8>>>| {
            let cell = |value: Option<Vec<u8>>| match value {
                None => Cell::Null,
                Some(bytes) => Cell::decode(&bytes, encoding),
            };
            self.rows += 1;
            let cells = Some(row.into_iter().map(cell).collect());
            Record { row: self.rows - 1, line: None, cells }
        };
        Ok(rows.into_iter().map(record).collect())
    }
}
