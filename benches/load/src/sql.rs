//! SQL on a database of the benchmark.

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as SeaOrm, DatabaseConnection, DbBackend, Statement,
};

/// A connection pool with one connection.
pub(crate) async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).min_connections(1).max_connections(1);
    SeaOrm::connect(options).await.unwrap()
}

/// Runs statements without a result.
pub(crate) async fn execute(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap();
}

/// The number that a query returns.
pub(crate) async fn number(database: &DatabaseConnection, sql: &str) -> i64 {
    let cast = format!(
        "SELECT CAST(({sql}) AS {})",
        match database.get_database_backend() {
            DbBackend::MySql => "SIGNED",
            _ => "BIGINT",
        }
    );
    let statement = Statement::from_string(database.get_database_backend(), cast);
    database.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}
