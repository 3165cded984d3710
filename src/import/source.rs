//! The source of rows: CSV files or a database.

use std::{path::PathBuf, time::Duration};

use super::{
    cell::Record,
    csv_file::CsvFile,
    error::ImportError,
    mapping::{Mapping, SourceOptions},
    query::SourceQuery,
    table::{Column, Table},
};
use crate::storage::SourceDatabase;

/// Maximum rows that are read, checked and written together.
const ROWS_PER_BATCH: usize = 2000;

/// The source of rows.
pub(super) enum RowSource {
    Files { directory: PathBuf, delimiter: char },
    Database(SourceDatabase),
}

impl RowSource {
    pub(super) async fn open(mapping: &Mapping) -> Result<Self, ImportError> {
        let (url, timeout) = match &mapping.source {
            SourceOptions::Csv { directory, delimiter } => {
                return Ok(Self::Files { directory: directory.clone(), delimiter: *delimiter });
            }
            SourceOptions::Mysql { url, timeout_seconds }
            | SourceOptions::Postgres { url, timeout_seconds }
            | SourceOptions::Sqlite { url, timeout_seconds } => (url, *timeout_seconds),
        };
        let database = SourceDatabase::open(url, Duration::from_secs(timeout.into())).await;
        let fails = |error| ImportError::Source { table: "source", error };
        Ok(Self::Database(database.map_err(fails)?))
    }

    /// The rows of a table; `None` if the mapping file does not have it.
    pub(super) async fn rows<'a>(
        &'a self,
        mapping: &'a Mapping,
        table: Table,
    ) -> Result<Option<SourceRows<'a>>, ImportError> {
        let Some(options) = mapping.table(table) else { return Ok(None) };
        let encoding = options.encoding;
        Ok(Some(match (self, &options.file, &options.select) {
            (Self::Files { directory, delimiter }, Some(file), _) => {
                SourceRows::File(CsvFile::open(table, &directory.join(file), *delimiter, encoding)?)
            }
            (Self::Database(database), _, Some(select)) => {
                SourceRows::Query(SourceQuery::open(table, database, select, encoding).await?)
            }
            _ => return Ok(None),
        }))
    }

    pub(super) async fn close(self) {
        if let Self::Database(database) = self {
            database.close().await;
        }
    }
}

/// The rows of a table, in order.
pub(super) enum SourceRows<'a> {
    File(CsvFile),
    Query(SourceQuery<'a>),
}

impl SourceRows<'_> {
    pub(super) fn columns(&self) -> &[Column] {
        match self {
            Self::File(file) => &file.columns,
            Self::Query(query) => &query.columns,
        }
    }

    /// The next rows; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Record>, ImportError> {
        match self {
            Self::File(file) => file.next(ROWS_PER_BATCH),
            Self::Query(query) => query.next(ROWS_PER_BATCH).await,
        }
    }

    /// The units that were read, and the units of all rows: bytes of a file, or rows of a query.
    pub(super) fn position(&self) -> (u64, u64) {
        match self {
            Self::File(file) => (file.position(), file.bytes),
            Self::Query(query) => (u64::try_from(query.rows).unwrap_or_default(), query.total),
        }
    }
}
