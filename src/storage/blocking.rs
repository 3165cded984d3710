//! Transactions on blocking SeaORM, for SQLite: one thread writes, and a round trip to a driver's
//! thread costs more than most statements.

use sea_orm_blocking as sea_orm;
use sea_orm_blocking::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, ExecResult,
    QueryResult, Statement,
};

use super::{connect::Options, sqlite_url::SqliteFile};
use crate::domain::error::Error;

macro_rules! sql {
    ($engine:expr, $span:expr, $operation:expr, $collection:expr, $call:expr) => {
        crate::storage::query_telemetry::blocking($engine, $span, $operation, $collection, || $call)
    };
}

/// A statement without database access: it has no span.
macro_rules! sql_without_span {
    ($call:expr) => {
        $call
    };
}

#[expect(dead_code, reason = "what only the other twin uses")]
#[path = "sql/mod.rs"]
mod sql;
pub(super) use sql::*;

/// An open transaction on an exclusive connection. SeaORM's own type panics on drop after SQLite
/// rolls back by itself, as on a full disk. The connection's owner rolls back an open transaction.
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

/// Begins a write transaction. A transaction that starts with a read may fail to upgrade.
fn begin(connection: &DatabaseConnection) -> Result<Transaction, DbErr> {
    connection.execute_unprepared("BEGIN IMMEDIATE")?;
    Ok(Transaction(connection.clone()))
}

/// Opens a connection with the settings of [`super::connect`].
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

/// Returns a row if the settings hold: SQLite silently ignores a rejected setting.
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
