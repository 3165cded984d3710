//! A separate database for each test.

use std::{
    env,
    io::Write,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use m4_user_details::storage::Options;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbErr, Statement};
use tokio::time::timeout;

use super::until;

/// Timeout for a server that may not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

/// A new and empty database.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    pub kind: Kind,
    pub url: String,
}

impl TestDatabase {
    pub fn options(&self) -> Options {
        Options::of(self.url.clone())
    }

    /// Opens a connection for the test.
    pub async fn connect(&self) -> DatabaseConnection {
        let mut options = sea_orm::ConnectOptions::new(self.url.clone());
        options.sqlx_logging(false).max_connections(1);
        Database::connect(options).await.unwrap()
    }

    /// The first column of the first row of a query, as text.
    pub async fn text(&self, query: &str) -> String {
        let connection = self.connect().await;
        let row = connection.query_one_raw(statement(&connection, query)).await.unwrap().unwrap();
        let text = row.try_get_by_index(0).unwrap();
        connection.close().await.unwrap();
        text
    }

    /// Like [`Self::text`], for a server that may not answer.
    pub async fn try_text(&self, query: &str) -> Result<String, DbErr> {
        let asked = async {
            let mut options = sea_orm::ConnectOptions::new(self.url.clone());
            options.sqlx_logging(false).max_connections(1).acquire_timeout(ANSWER_TIMEOUT);
            let connection = Database::connect(options).await?;
            let row = connection.query_one_raw(statement(&connection, query)).await;
            let row = row?.ok_or_else(|| DbErr::RecordNotFound(query.to_owned()));
            let text = row?.try_get_by_index(0);
            connection.close().await?;
            text
        };
        let silent = || DbErr::Custom("the server does not answer".to_owned());
        timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| Err(silent()))
    }

    /// The number in the single row and column of a query.
    pub async fn number(&self, query: &str) -> i64 {
        let connection = self.connect().await;
        let row = connection.query_one_raw(statement(&connection, query)).await.unwrap().unwrap();
        let number = row.try_get_by_index(0).unwrap();
        connection.close().await.unwrap();
        number
    }

    /// Keeps the service from changing alice. On SQLite, locks all users.
    pub async fn lock_alice(&self) -> Lock {
        let connection = self.connect().await;
        let (begin, lock) = match self.kind {
            Kind::Sqlite => ("BEGIN IMMEDIATE", "SELECT 1"),
            Kind::Postgres | Kind::MariaDb => {
                ("BEGIN", "SELECT id FROM accounts WHERE id = 3 FOR UPDATE")
            }
        };
        connection.execute_unprepared(begin).await.unwrap();
        connection.execute_unprepared(lock).await.unwrap();
        Lock(connection)
    }

    /// The number of statements that wait for a lock. Servers only: SQLite does not report it.
    pub async fn lock_waits(&self) -> i64 {
        let query = match self.kind {
            Kind::Sqlite => panic!("SQLite does not tell who waits for its lock"),
            Kind::Postgres => {
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'"
            }
            // `state` shows only table locks. `innodb_trx` is not refreshed while it is read more
            // often than every 100 ms.
            Kind::MariaDb => {
                "SELECT count(*) FROM information_schema.processlist WHERE db = database() \
                 AND id <> connection_id() AND (state LIKE 'Waiting for %' \
                 OR (time_ms > 100 AND info LIKE '%FOR UPDATE%'))"
            }
        };
        self.number(query).await
    }

    /// Waits until a statement waits for a lock. Servers only.
    pub async fn until_a_lock_is_waited_for(&self) {
        until("a statement waits for a lock", || async { self.lock_waits().await > 0 }).await;
    }

    /// Begins a transaction for the test.
    pub async fn begin(&self) -> Transaction {
        let connection = self.connect().await;
        connection.execute_unprepared("BEGIN").await.unwrap();
        Transaction(connection)
    }

    /// Runs statements that the triggers of `accounts` would refuse or log: such rows may be older
    /// than the triggers. On SQLite and MariaDB, the triggers are gone afterwards.
    pub async fn execute_without_triggers(&self, sql: &str) {
        const DROP: &str = "DROP TRIGGER IF EXISTS accounts_checked_insert; \
                            DROP TRIGGER IF EXISTS accounts_external_change";
        let off = match self.kind {
            Kind::Postgres => "SET session_replication_role = replica",
            Kind::Sqlite | Kind::MariaDb => DROP,
        };
        self.execute(&format!("{off}; {sql}")).await;
    }

    /// Runs a statement.
    pub async fn execute(&self, sql: &str) {
        let connection = self.connect().await;
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A transaction of the test.
pub struct Transaction(DatabaseConnection);

impl Transaction {
    pub async fn execute(&self, sql: &str) {
        self.0.execute_unprepared(sql).await.unwrap();
    }

    pub async fn commit(self) {
        self.execute("COMMIT").await;
    }
}

/// A lock that keeps the service from changing alice.
pub struct Lock(DatabaseConnection);

impl Lock {
    pub async fn release(self) {
        self.0.execute_unprepared("ROLLBACK").await.unwrap();
    }
}

fn statement(connection: &DatabaseConnection, sql: &str) -> Statement {
    Statement::from_string(connection.get_database_backend(), sql)
}

/// Runs a test in a new database, and drops it afterwards. Without a server of this kind the test
/// is skipped, or fails if `TEST_REQUIRE_ALL=1` is set.
pub fn run<F>(kind: Kind, test: impl FnOnce(TestDatabase) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let variable = match kind {
        Kind::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("test.db").display());
            runtime.block_on(test(TestDatabase { kind, url }));
            return;
        }
        Kind::Postgres => "TEST_POSTGRES_URL",
        Kind::MariaDb => "TEST_MYSQL_URL",
    };
    let Ok(server) = env::var(variable) else {
        assert!(env::var_os("TEST_REQUIRE_ALL").is_none(), "{variable} is not set");
        // Write to the terminal: the test runner hides the output of tests that pass.
        let _ = writeln!(std::io::stderr(), "SKIPPED on {kind:?}: {variable} is not set");
        return;
    };
    let name = name();
    let database = TestDatabase { kind, url: with_name(&server, &name) };
    let create = format!("CREATE DATABASE {name}");
    let drop = match kind {
        Kind::Postgres => format!("DROP DATABASE {name} WITH (FORCE)"),
        Kind::Sqlite | Kind::MariaDb => format!("DROP DATABASE {name}"),
    };
    let server = TestDatabase { kind, url: server };
    runtime.block_on(server.execute(&create));
    let test = runtime.block_on(runtime.spawn(test(database)));
    runtime.block_on(server.execute(&drop));
    if let Err(failed) = test {
        std::panic::resume_unwind(failed.into_panic());
    }
}

fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("m4_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Replaces the database in a server's URL.
fn with_name(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(base, query)| (base, query));
    let host = base.find("://").map_or(0, |scheme| scheme + 3);
    let end = base[host..].find('/').map_or(base.len(), |slash| host + slash);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{}/{name}{query}", &base[..end])
}
