//! Connections to databases that an import only reads.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, SqlxMySqlConnector, SqlxPostgresConnector,
    SqlxSqliteConnector,
    sqlx::{
        ConnectOptions, Database, MySql, Postgres, Sqlite, pool::PoolOptions,
        sqlite::SqliteConnectOptions,
    },
};

use super::{
    OpenError, UrlError,
    login::failed,
    url::{Host, ServerUrl},
};
use crate::storage::sqlite_url::SqliteFile;

/// Timeout for connecting to a source.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a database for reading. SQLite refuses writes; on servers, the caller's transactions do.
pub(in crate::storage) async fn open_source(url: &str) -> Result<DatabaseConnection, OpenError> {
    if url.starts_with("sqlite:") {
        let file = SqliteFile::from_url(url)?;
        let options = SqliteConnectOptions::new()
            .filename(file.path())
            .read_only(true)
            .busy_timeout(SOURCE_TIMEOUT)
            .disable_statement_logging();
        let pool = one::<Sqlite>().connect_lazy_with(options);
        let connection = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
        connection.execute_unprepared("PRAGMA query_only = ON").await?;
        return Ok(connection);
    }
    let url = ServerUrl::read(url)?;
    let host = url.hosts.first().cloned().ok_or(UrlError::Authority)?;
    let connected = connect(host).await;
    connected.map_err(|error| OpenError::of_connection(error, &url))
}

async fn connect(host: Host) -> Result<DatabaseConnection, DbErr> {
    match host {
        Host::Postgres(options) => {
            let pool = one::<Postgres>().connect_with(options).await.map_err(failed)?;
            Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
        }
        Host::MySql(options) => {
            let pool = one::<MySql>().connect_with(options).await.map_err(failed)?;
            Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool))
        }
    }
}

/// One connection.
fn one<D: Database>() -> PoolOptions<D> {
    PoolOptions::new()
        .max_connections(1)
        .acquire_timeout(SOURCE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
}
