//! The connections of the writer and its helpers to SQLite. They run SeaORM's statements on the
//! calling thread: a round trip to a driver's thread costs more than most statements.

use std::{
    borrow::Cow,
    error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use rusqlite::{
    CachedStatement, Connection, OpenFlags, Row, ToSql, config::DbConfig, types::ToSqlOutput,
};
use sea_orm::{
    DbErr, FromQueryResult, RuntimeErr, Statement, TransactionSession, Value,
    sqlx::{self, error::ErrorKind},
};

use super::{
    connect::Options,
    sql::{executor::Executor, sqlite_row::FromSqliteRow, stored::FromRow},
    sqlite_url::SqliteFile,
    unknown::Unreadable,
};
use crate::domain::error::Error;

/// Log pages after which the writer itself runs a checkpoint and restarts the log. All updates wait
/// for this checkpoint, but [`super::checkpoint`] leaves little to do.
pub(super) const LOG_PAGES: i32 = 32_000;

/// The same in bytes, 132 MB: SQLite truncates a longer log on restart. A page has 4096 + 24 bytes.
pub(super) const LOG_BYTES: u64 = LOG_PAGES.unsigned_abs() as u64 * (4096 + 24);

/// WAL with every commit synced: an acknowledged update survives a power loss. The cache is 4 MB.
const SQLITE_SESSION: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -4000";

/// Whether the settings hold: SQLite silently ignores a rejected setting.
const IS_DURABLE: &str = "
    SELECT count(*) FROM pragma_journal_mode, pragma_synchronous, pragma_foreign_keys
    WHERE journal_mode = 'wal' AND synchronous = 2 AND foreign_keys = 1";

/// Maximum number of prepared statements, as in sqlx.
const MAX_PREPARED_STATEMENTS: usize = 100;

/// A connection with the settings of [`super::connect`]. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct SqliteConnection(Arc<Mutex<Connection>>);

impl SqliteConnection {
    /// Opens a connection to an existing file.
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let file =
            SqliteFile::from_url(&options.url).map_err(|error| Error::Unavailable(error.into()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file.uri(), flags).map_err(failed)?;
        // The triggers of `accounts` are for other programs. They would cost each update time.
        let triggers = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
        connection.set_db_config(triggers, false).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(MAX_PREPARED_STATEMENTS);
        let connection = Self(Arc::new(Mutex::new(connection)));
        connection.execute_batch(SQLITE_SESSION)?;
        connection.execute_batch(&format!("PRAGMA wal_autocheckpoint = {LOG_PAGES}"))?;
        connection.execute_batch(&format!("PRAGMA journal_size_limit = {LOG_BYTES}"))?;
        if !connection.query_row(IS_DURABLE, |row| row.get(0))? {
            return Err(Error::Unavailable("the database cannot be written to durably".into()));
        }
        Ok(connection)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs statements without values, and ignores their rows.
    pub(super) fn execute_batch(&self, sql: &str) -> Result<(), DbErr> {
        self.lock().execute_batch(sql).map_err(failed)
    }

    /// Reads the first row of a statement without values.
    pub(super) fn query_row<T>(
        &self,
        sql: &str,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DbErr> {
        self.lock().query_row(sql, [], read).map_err(failed)
    }

    /// Begins a write transaction. A transaction that starts with a read may fail to upgrade. The
    /// caller rolls back after a failure.
    pub(super) async fn begin(&self) -> Result<Self, DbErr> {
        self.execute_batch("BEGIN IMMEDIATE")?;
        Ok(self.clone())
    }
}

/// The open transaction. SeaORM's own type panics on drop after SQLite rolls back by itself, as on
/// a full disk.
#[async_trait]
impl TransactionSession for SqliteConnection {
    async fn commit(self) -> Result<(), DbErr> {
        self.execute_batch("COMMIT")
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.execute_batch("ROLLBACK")
    }
}

impl Executor for SqliteConnection {
    async fn execute(&self, statement: Statement) -> Result<u64, DbErr> {
        let connection = self.lock();
        let rows = prepare(&connection, &statement)?.raw_execute().map_err(failed)?;
        Ok(rows as u64)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<(), DbErr> {
        self.execute_batch(sql)
    }

    async fn rows<T>(&self, statement: Statement) -> Result<Vec<T>, DbErr>
    where
        T: FromQueryResult + FromSqliteRow + Send,
    {
        let connection = self.lock();
        let mut prepared = prepare(&connection, &statement)?;
        let rows = prepared.raw_query().mapped(T::from_sqlite_row);
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    async fn read<T>(&self, statement: Statement) -> Result<Vec<Result<T, Unreadable>>, DbErr>
    where
        T: FromRow<Row: FromSqliteRow, Place: Send> + Send,
    {
        let connection = self.lock();
        let mut prepared = prepare(&connection, &statement)?;
        let rows = prepared.raw_query().mapped(|row| Ok(read(row)));
        rows.collect::<Result<_, _>>().map_err(failed)
    }
}

/// Reads a row of a table.
fn read<T: FromRow<Row: FromSqliteRow>>(row: &Row<'_>) -> Result<T, Unreadable> {
    let cause = match T::Row::from_sqlite_row(row).map(T::from_row) {
        Ok(Ok(read)) => return Ok(read),
        Ok(Err(corrupt)) => corrupt.into(),
        Err(failure) => failed(failure).into(),
    };
    let number = || row.get::<_, i64>("id").map(|id| id.to_string());
    let id = number().or_else(|_| row.get("id")).unwrap_or_default();
    Err(Unreadable { table: T::TABLE, id, cause })
}

/// Prepares a statement, or takes it from the cache, and binds its values.
fn prepare<'a>(
    connection: &'a Connection,
    Statement { sql, values, .. }: &Statement,
) -> Result<CachedStatement<'a>, DbErr> {
    let mut prepared = connection.prepare_cached(sql).map_err(failed)?;
    let values = values.iter().flat_map(|values| &values.0);
    for (position, value) in (1..).zip(values) {
        prepared.raw_bind_parameter(position, Parameter(value)).map_err(failed)?;
    }
    Ok(prepared)
}

/// A value of a statement.
struct Parameter<'a>(&'a Value);

impl ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self.0 {
            Value::Bool(value) => value.to_sql(),
            Value::Int(value) => value.to_sql(),
            Value::BigInt(value) => value.to_sql(),
            Value::String(value) => value.to_sql(),
            Value::ChronoDate(value) => value.to_sql(),
            Value::Json(value) => value.to_sql(),
            other => {
                let unknown =
                    format!("no statement has values of the type {:?}", other.array_type());
                Err(rusqlite::Error::ToSqlConversionFailure(unknown.into()))
            }
        }
    }
}

/// An error of SQLite, in the form in which SeaORM carries the errors of databases. Its text is
/// dropped: the text may contain stored values.
#[derive(Debug, thiserror::Error)]
#[error("error {code}")]
struct SqliteError {
    /// The extended result code.
    code: String,
}

impl sqlx::error::DatabaseError for SqliteError {
    fn message(&self) -> &str {
        &self.code
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.code))
    }

    fn as_error(&self) -> &(dyn error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn failed(error: rusqlite::Error) -> DbErr {
    let error = match error.sqlite_error() {
        Some(failure) => {
            sqlx::Error::Database(Box::new(SqliteError { code: failure.extended_code.to_string() }))
        }
        None => sqlx::Error::Decode(error.into()),
    };
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sqlite_url;

    #[tokio::test]
    async fn a_full_disk_is_named_and_the_connection_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        std::fs::write(&path, "").unwrap();
        let connection = SqliteConnection::open(&Options::of(sqlite_url(&path))).unwrap();
        connection.execute_batch("CREATE TABLE large (content BLOB)").unwrap();
        for round in 0..3 {
            connection.execute_batch("PRAGMA max_page_count = 10").unwrap();
            let transaction = connection.begin().await.unwrap();
            let insert = "INSERT INTO large VALUES (zeroblob(100000))";
            let full = Error::from(transaction.execute_batch(insert).unwrap_err());
            drop(transaction);
            let Error::Unavailable(cause) = full else { panic!("{full:?}") };
            assert!(cause.to_string().ends_with(": disk full"), "{cause}");
            let _ = connection.execute_batch("ROLLBACK");
            connection.execute_batch("PRAGMA max_page_count = 1000").unwrap();
            let transaction = connection.begin().await.unwrap();
            transaction.execute_batch("INSERT INTO large VALUES ('small')").unwrap();
            transaction.commit().await.unwrap();
            let count: i64 =
                connection.query_row("SELECT count(*) FROM large", |row| row.get(0)).unwrap();
            assert_eq!(count, round + 1);
        }
    }
}
