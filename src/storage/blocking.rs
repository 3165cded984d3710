//! The transactions on SeaORM's blocking twin: on SQLite, where the way to a driver's thread and back would cost more than
//! most statements, and one thread writes.

use sea_orm_blocking as sea_orm;
use sea_orm_blocking::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, ExecResult,
    QueryResult, Statement,
};

use super::{connect::Options, sqlite_url::SqliteFile};
use crate::domain::error::Error;

macro_rules! sql {
    ($engine:expr, $operation:expr, $collection:expr, $call:expr) => {
        crate::storage::query_telemetry::blocking($engine, $operation, $collection, || $call)
    };
}

/// A statement that reads nothing of the database: it has no span.
macro_rules! sql_without_span {
    ($call:expr) => {
        $call
    };
}

#[expect(dead_code, reason = "what only the other twin uses")]
#[path = "sql/mod.rs"]
mod sql;
pub(super) use sql::*;

/// An open transaction of a connection that nobody else uses. SeaORM's own panics when it is dropped after SQLite has rolled
/// back by itself, as it does on a full disk. Whoever holds the connection rolls back what was not ended.
pub(super) struct Transaction(DatabaseConnection);

impl Transaction {
    fn commit(self) -> Result<(), DbErr> {
        self.0.execute_unprepared("COMMIT").map(drop)
    }

    fn rollback(self) -> Result<(), DbErr> {
        self.0.execute_unprepared("ROLLBACK").map(drop)
    }
}

impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(statement)
    }

    fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql)
    }

    fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement)
    }

    fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement)
    }
}

/// Begins a transaction. One that begins by reading cannot always go on to write.
fn begin(connection: &DatabaseConnection) -> Result<Transaction, DbErr> {
    connection.execute_unprepared("BEGIN IMMEDIATE")?;
    Ok(Transaction(connection.clone()))
}

/// As [`super::connect`] sets its connections up.
pub(super) fn connect(options: &Options) -> Result<DatabaseConnection, Error> {
    let file =
        SqliteFile::from_url(&options.url).map_err(|error| Error::Unavailable(error.into()))?;
    let connection = Database::connect(ConnectOptions::new(format!("sqlite:{}", file.uri())))?;
    connection.execute_unprepared(SQLITE_SESSION)?;
    connection.execute_unprepared(&format!("PRAGMA wal_autocheckpoint = {LOG_PAGES}"))?;
    connection.execute_unprepared(&format!("PRAGMA journal_size_limit = {LOG_BYTES}"))?;
    let set = Statement::from_string(DbBackend::Sqlite, DURABLE);
    if connection.query_one_raw(set)?.is_none() {
        return Err(Error::Unavailable("the database cannot be written to durably".into()));
    }
    Ok(connection)
}

/// How many pages SQLite's write-ahead log has before the writer itself brings what it holds into the database, and starts
/// it anew: everybody waits for that, and most of it has been done meanwhile, see [`Checkpoints`].
pub(super) const LOG_PAGES: i32 = 32_000;

/// As many bytes, 132 MB: a log that was longer is cut when it is begun anew. A page of 4096 bytes has a header of 24.
pub(super) const LOG_BYTES: u64 = LOG_PAGES.unsigned_abs() as u64 * (4096 + 24);

/// WAL, and every commit synced: an update that was answered survives the loss of power. 4 MB of pages are cached.
const SQLITE_SESSION: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -4000";

/// A row if that was done: SQLite does not say so when a setting is refused.
const DURABLE: &str = "
    SELECT 1 FROM pragma_journal_mode, pragma_synchronous, pragma_foreign_keys
    WHERE journal_mode = 'wal' AND synchronous = 2 AND foreign_keys = 1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sqlite_url;

    #[test]
    fn a_full_disk_is_named_and_the_connection_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        std::fs::write(&path, "").unwrap();
        let connection = connect(&Options::of(sqlite_url(&path))).unwrap();
        connection.execute_unprepared("CREATE TABLE large (content BLOB)").unwrap();
        for round in 0..3 {
            connection.execute_unprepared("PRAGMA max_page_count = 10").unwrap();
            let transaction = begin(&connection).unwrap();
            let insert = "INSERT INTO large VALUES (zeroblob(100000))";
            let full = Error::from(transaction.execute_unprepared(insert).unwrap_err());
            drop(transaction);
            let Error::Unavailable(cause) = full else { panic!("{full:?}") };
            assert!(cause.to_string().ends_with(": disk full"), "{cause}");
            let _ = connection.execute_unprepared("ROLLBACK");
            connection.execute_unprepared("PRAGMA max_page_count = 1000").unwrap();
            let transaction = begin(&connection).unwrap();
            transaction.execute_unprepared("INSERT INTO large VALUES ('small')").unwrap();
            transaction.commit().unwrap();
            let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM large");
            let row = connection.query_one_raw(count).unwrap().unwrap();
            assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), round + 1);
        }
    }
}
