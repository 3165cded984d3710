//! A database that an import reads: pages of a query, every value as text in bytes.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, QueryResult, RuntimeErr, Statement};

use super::connect::{Engine, OpenError, UrlError, open_source};

/// Why a source cannot be read. The driver's text is for the operator, who wrote the query.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the query fails: {0}")]
    Query(String),
}

impl From<DbErr> for SourceError {
    fn from(error: DbErr) -> Self {
        Self::Query(match error {
            DbErr::Query(RuntimeErr::SqlxError(error)) => error.to_string(),
            error => error.to_string(),
        })
    }
}

/// A row: `None` is NULL.
pub(crate) type SourceRow = Vec<Option<Vec<u8>>>;

/// A database that is only read.
pub(crate) struct SourceDatabase {
    connection: DatabaseConnection,
    engine: Engine,
}

impl SourceDatabase {
    /// Connects.
    pub(crate) async fn open(url: &str) -> Result<Self, SourceError> {
        let engine = Engine::from_url(url).ok_or(OpenError::Url(UrlError::Scheme))?;
        Ok(Self { connection: open_source(url).await?, engine })
    }

    /// The columns of a query; none if it has no row.
    pub(crate) async fn columns(&self, select: &str) -> Result<Vec<String>, SourceError> {
        let first = format!("SELECT * FROM ({select}) AS source LIMIT 1");
        let row = self.connection.query_one_raw(self.statement(first)).await?;
        Ok(row.map(|row| row.column_names()).unwrap_or_default())
    }

    /// The number of rows of a query.
    pub(crate) async fn count(&self, select: &str) -> Result<u64, SourceError> {
        let count = format!("SELECT count(*) FROM ({select}) AS source");
        let row = self.connection.query_one_raw(self.statement(count)).await?;
        let count: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Rows in the order of the column `id`: at most `limit`, with ids above `after`.
    pub(crate) async fn page(
        &self,
        (select, columns, is_raw): (&str, &[String], bool),
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, SourceError> {
        let id = self.quoted("id");
        let behind = after.map_or_else(String::new, |after| format!(" WHERE {id} > {after}"));
        let rest = format!("{behind} ORDER BY {id} LIMIT {limit}");
        self.rows(select, columns, is_raw, &rest).await
    }

    /// All rows.
    pub(crate) async fn all(
        &self,
        (select, columns, is_raw): (&str, &[String], bool),
    ) -> Result<Vec<SourceRow>, SourceError> {
        self.rows(select, columns, is_raw, "").await
    }

    async fn rows(
        &self,
        select: &str,
        columns: &[String],
        is_raw: bool,
        rest: &str,
    ) -> Result<Vec<SourceRow>, SourceError> {
        let texts: Vec<_> = columns.iter().map(|column| self.bytes_of(column, is_raw)).collect();
        let query = format!("SELECT {} FROM ({select}) AS source{rest}", texts.join(", "));
        let rows = self.connection.query_all_raw(self.statement(query)).await?;
        let row = |row: QueryResult| {
            (0..columns.len()).map(|index| row.try_get_by_index(index)).collect()
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, DbErr>>()?)
    }

    /// The text of a column as bytes of UTF-8, converted by the database. `is_raw` leaves the bytes
    /// of texts as they are stored: MariaDB would replace bytes that its character set lacks.
    fn bytes_of(&self, column: &str, is_raw: bool) -> String {
        let column = self.quoted(column);
        match self.engine {
            Engine::Sqlite => format!("CAST({column} AS BLOB)"),
            Engine::Postgres => format!("convert_to(CAST({column} AS text), 'UTF8')"),
            Engine::MySql if is_raw => format!("CAST({column} AS BINARY)"),
            Engine::MySql => format!("CAST(CONVERT({column} USING utf8mb4) AS BINARY)"),
        }
    }

    fn quoted(&self, column: &str) -> String {
        match self.engine {
            Engine::MySql => format!("`{}`", column.replace('`', "``")),
            Engine::Sqlite | Engine::Postgres => format!("\"{}\"", column.replace('"', "\"\"")),
        }
    }

    fn statement(&self, sql: String) -> Statement {
        Statement::from_string(self.connection.get_database_backend(), sql)
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        let _ = self.connection.close().await;
    }
}
