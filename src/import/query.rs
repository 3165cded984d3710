//! Rows of a query to a database.

use super::{
    cell::{Cell, Record},
    error::ImportError,
    mapping::Encoding,
    table::{Column, Table},
};
use crate::storage::{SourceDatabase, SourceError};

/// A query. Pages follow each other by id, so no transaction stays open.
pub(super) struct SourceQuery<'a> {
    database: &'a SourceDatabase,
    table: Table,
    select: &'a str,
    encoding: Encoding,
    names: Vec<String>,
    pub(super) columns: Vec<Column>,
    pub(super) total: u64,
    pub(super) rows: i64,
    after: Option<i64>,
    /// The rows of the next page.
    page: usize,
    has_ended: bool,
}

/// Rows of the first page: nobody knows yet how large they are.
const FIRST_PAGE: usize = 500;
/// Bytes of a page, beyond which the next page has fewer rows.
const LARGE_SOURCE_PAGE: usize = 4 << 20;

impl<'a> SourceQuery<'a> {
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
            page: FIRST_PAGE,
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
            Some(_) => self.database.page(query, self.after, self.page).await,
            None => self.database.all(query).await,
        };
        let fails = |error| ImportError::Source { table: self.table.as_str(), error };
        let rows = rows.map_err(fails)?;
        self.has_ended = id.is_none() || rows.len() < self.page;
        let bytes: usize = rows.iter().flatten().flatten().map(Vec::len).sum();
        self.page =
            if bytes > LARGE_SOURCE_PAGE { self.page / 2 } else { self.page * 2 }.clamp(1, limit);
        let mut ids = Vec::new();
        for row in id.iter().flat_map(|id| rows.iter().map(|row| row[*id].as_deref())) {
            let id = row.and_then(|id| str::from_utf8(id).ok()?.parse().ok());
            let id = id.filter(|id| self.after.is_none_or(|after| *id > after));
            let problem = "the column id must hold unique integers, and be of an integer type";
            let problem = || SourceError::Query(problem.to_owned());
            self.after = Some(id.ok_or_else(problem).map_err(fails)?);
            ids.extend(id);
        }
        let read = u64::try_from(self.rows).unwrap_or_default() + rows.len() as u64;
        if self.has_ended && read < self.total {
            let problem = "it has fewer rows in pages than it counts: an id is NULL or not unique, \
                           or others change the source: run the command again";
            return Err(fails(SourceError::Query(problem.to_owned())));
        }
        let mut ids = ids.into_iter();
        let encoding = self.encoding;
        let record = |row: Vec<Option<Vec<u8>>>| {
            let cell = |value: Option<Vec<u8>>| match value {
                None => Cell::Null,
                Some(bytes) => Cell::decode(&bytes, encoding),
            };
            self.rows += 1;
            let cells = Some(row.into_iter().map(cell).collect());
            // The id names the row in a second pass, even if others change the source.
            Record { row: ids.next().unwrap_or(self.rows - 1), line: None, cells }
        };
        Ok(rows.into_iter().map(record).collect())
    }
}
