//! A database that an import reads: pages of a query, every value as text in bytes.

use std::time::Duration;

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DbErr, QueryResult, RuntimeErr, Statement,
    TransactionTrait,
    sqlx::{self, AssertSqlSafe, postgres::PgRow},
};
use tokio::time::timeout;

use super::connect::{Engine, OpenError, UrlError, open_source};

/// Why a source cannot be read. The driver's text is for the operator, who wrote the query.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the query fails: {0}")]
    Query(String),
    #[error("it has not answered for {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Timeout for closing a connection: its server may have vanished.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

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
    timeout: Duration,
}

impl SourceDatabase {
    /// Connects. No read takes longer than `timeout`.
    pub(crate) async fn open(url: &str, timeout: Duration) -> Result<Self, SourceError> {
        let engine = Engine::from_url(url).ok_or(OpenError::Url(UrlError::Scheme))?;
        Ok(Self { connection: open_source(url).await?, engine, timeout })
    }

    /// The columns of a query; none if it has no row.
    pub(crate) async fn columns(&self, select: &str) -> Result<Vec<String>, SourceError> {
        let first = format!("SELECT * FROM ({select}) AS source LIMIT 1");
        let row = self.read(first).await?.pop();
        Ok(row.map(|row| row.column_names()).unwrap_or_default())
    }

    /// The number of rows of a query.
    pub(crate) async fn count(&self, select: &str) -> Result<u64, SourceError> {
        let count = format!("SELECT count(*) FROM ({select}) AS source");
        let row = self.read(count).await?.pop();
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
        let rows = self.read(query).await?;
        let row = |row: QueryResult| {
            (0..columns.len()).map(|index| row.try_get_by_index(index)).collect()
        };
        Ok(rows.into_iter().map(row).collect::<Result<_, DbErr>>()?)
    }

    /// Reads in a transaction that may not write: a pooler would give the settings of a session to
    /// other programs.
    async fn read(&self, query: String) -> Result<Vec<QueryResult>, SourceError> {
        let read = async {
            match self.engine {
                Engine::Postgres => self.postgres_rows(query).await,
                Engine::MySql => {
                    let read_only = Some(AccessMode::ReadOnly);
                    let transaction = self.connection.begin_with_config(None, read_only).await?;
                    let rows = transaction.query_all_raw(self.statement(query)).await?;
                    transaction.commit().await?;
                    Ok(rows)
                }
                Engine::Sqlite => self.connection.query_all_raw(self.statement(query)).await,
            }
        };
        let read = timeout(self.timeout, read).await;
        Ok(read.map_err(|_| SourceError::Timeout(self.timeout))??)
    }

    /// SeaORM names prepared statements. With a pooler, another client's session may have the name.
    async fn postgres_rows(&self, query: String) -> Result<Vec<QueryResult>, DbErr> {
        let read = async {
            let pool = self.connection.get_postgres_connection_pool();
            let mut transaction = pool.begin_with("BEGIN READ ONLY").await?;
            let query = sqlx::query(AssertSqlSafe(query)).persistent(false);
            let rows = query.fetch_all(&mut *transaction).await?;
            transaction.commit().await?;
            Ok(rows)
        };
        let rows: Result<Vec<PgRow>, sqlx::Error> = read.await;
        let rows = rows.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    fn statement(&self, sql: String) -> Statement {
        Statement::from_string(self.connection.get_database_backend(), sql)
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

    /// Closes the connection.
    pub(crate) async fn close(self) {
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close()).await;
    }
}
