//! The benchmark's databases: create, fill, check and drop.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use m4_user_details::storage::{Options, migrate};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tempfile::TempDir;

use crate::{
    engine::Engine,
    fill,
    sql::{connect, execute, number},
    users::FIRST_ID,
};

/// Timeout for dropping a database.
const DROP_TIMEOUT: Duration = Duration::from_secs(60);

/// Numbers the databases of this process.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// A database of the benchmark, filled with users.
pub(crate) struct Database {
    /// The engine.
    pub(crate) engine: Engine,
    /// The URL for the service.
    pub(crate) url: String,
    /// Number of users that are updated.
    pub(crate) users: i64,
    /// Number of change log entries after filling.
    pub(crate) log_rows: i64,
    folder: TempDir,
    connection: DatabaseConnection,
    /// The id of the last filled change log entry.
    last_filled: i64,
    acknowledged: usize,
}

impl Database {
    /// Creates a database with this number of users and change log entries.
    pub(crate) async fn filled(engine: &Engine, users: i64, log_rows: i64) -> Self {
        let folder = tempfile::tempdir_in("target").unwrap();
        let url = match engine.server() {
            None => format!("sqlite://{}", folder.path().join("load.db").display()),
            Some(server) => {
                let name = format!("{}{}", prefix(), NEXT.fetch_add(1, Ordering::Relaxed));
                execute(&connect(server).await, &format!("CREATE DATABASE {name}")).await;
                let (server, _) = server.rsplit_once('/').unwrap();
                format!("{server}/{name}")
            }
        };
        let options = Options::of(url.clone());
        migrate(&options, true).await.unwrap();
        fill::fill(&url, engine.name(), users, log_rows).await;
        let connection = connect(&url).await;
        let last_filled = number(&connection, "SELECT coalesce(max(id), 0) FROM change_log").await;
        let engine = engine.clone();
        Self { engine, url, users, log_rows, folder, connection, last_filled, acknowledged: 0 }
    }

    /// The file of an SQLite database.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("load.db")
    }

    /// Counts acknowledged updates.
    pub(crate) fn acknowledge(&mut self, updates: usize) {
        self.acknowledged += updates;
    }

    /// Asserts that exactly the acknowledged updates are stored, each with its change log entry.
    /// Each user must have the values of one update, the newest entry.
    pub(crate) async fn check(&self) {
        let new = format!("SELECT count(*) FROM change_log WHERE id > {}", self.last_filled);
        // The limit writes 'limit' into the column `door`.
        let stored = number(&self.connection, &format!("{new} AND door <> 'limit'")).await;
        let logged = number(&self.connection, &new).await;
        let versions = number(&self.connection, "SELECT sum(version - 1) FROM accounts").await;
        let (name, acknowledged) = (self.engine.name(), self.acknowledged);
        println!("{name}: {acknowledged} updates acknowledged so far, {stored} stored");
        assert_eq!(stored, i64::try_from(acknowledged).unwrap(), "what is acknowledged is stored");
        assert_eq!(logged, versions, "every change has its entry");
        // All values of an update derive from one number, which is unique.
        let (text, city, number_type) = match self.connection.get_database_backend() {
            DbBackend::MySql => ("CHAR", "CONCAT('%\"', a.city, '\"%')", "SIGNED"),
            _ => ("TEXT", "'%\"' || a.city || '\"%'", "BIGINT"),
        };
        let torn = format!(
            "SELECT count(*) FROM accounts WHERE id >= {FIRST_ID} AND version > 1 \
             AND call_limit <> CAST(substr(city, 6) AS {number_type}) % 1000000"
        );
        assert_eq!(number(&self.connection, &torn).await, 0, "a user has another one's values");
        let other = format!(
            "SELECT count(*) FROM accounts a JOIN change_log c ON c.user_id = a.id AND c.version = a.version \
             WHERE c.id > {} AND c.door <> 'limit' AND CAST(c.changes AS {text}) NOT LIKE {city}",
            self.last_filled
        );
        assert_eq!(
            number(&self.connection, &other).await,
            0,
            "the newest entry tells what is stored"
        );
    }

    /// The number that a query returns.
    pub(crate) async fn number(&self, sql: &str) -> f64 {
        let number = number(&self.connection, sql).await;
        number.to_string().parse().unwrap()
    }

    /// Reads every page of the tables and their indexes.
    pub(crate) async fn read_all(&self) {
        let tables = ["accounts", "change_log"];
        if matches!(self.engine, Engine::Postgres(_)) {
            execute(&self.connection, "CREATE EXTENSION IF NOT EXISTS pg_prewarm").await;
            let relations = "SELECT sum(pg_prewarm(oid::regclass)) FROM pg_class WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace";
            number(&self.connection, relations).await;
            return;
        }
        for table in tables {
            number(&self.connection, &format!("SELECT count(*) FROM {table} WHERE id + 0 > 0"))
                .await;
        }
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        self.connection.close().await.unwrap();
    }
}

/// Drops all databases of this process on an engine's server.
pub(crate) async fn drop_all(engine: &Engine) {
    let Some(server) = engine.server() else { return };
    let connection = connect(server).await;
    let (catalogue, force) = match engine {
        Engine::Postgres(_) => ("SELECT datname FROM pg_database", " WITH (FORCE)"),
        _ => ("SELECT schema_name FROM information_schema.schemata", ""),
    };
    let statement = Statement::from_string(connection.get_database_backend(), catalogue);
    for row in connection.query_all_raw(statement).await.unwrap() {
        let name: String = row.try_get_by_index(0).unwrap();
        if name.starts_with(&prefix()) {
            let sql = format!("DROP DATABASE {name}{force}");
            let dropped = tokio::time::timeout(DROP_TIMEOUT, execute(&connection, &sql)).await;
            dropped.unwrap_or_else(|_| eprintln!("{name} could not be dropped"));
        }
    }
    connection.close().await.unwrap();
}

/// The name prefix of this process's databases.
fn prefix() -> String {
    format!("m4_load_{}_", std::process::id())
}
