//! Connects to one server.

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr, SqlxMySqlConnector,
    SqlxPostgresConnector, Statement,
    sqlx::{self, mysql::MySqlPoolOptions, pool::PoolOptions, postgres::PgPoolOptions},
};
use tokio::net::TcpStream;

use super::{ACQUIRE_TIMEOUT, session, url::Host};

impl Host {
    /// Checks that the host accepts TCP connections: the driver would retry for longer.
    pub(super) async fn reach(&self) -> Result<(), DbErr> {
        let (socket, host, port) = match self {
            Self::Postgres(options) => {
                (options.get_socket(), options.get_host(), options.get_port())
            }
            Self::MySql(options) => (options.get_socket(), options.get_host(), options.get_port()),
        };
        if socket.is_some() {
            return Ok(());
        }
        let host = host.trim_matches(['[', ']']);
        let reached = TcpStream::connect((host, port)).await;
        reached.map(drop).map_err(|error| failed(error.into()))
    }

    pub(super) async fn connect(&self) -> Result<DatabaseConnection, DbErr> {
        match self {
            Self::Postgres(host) => {
                let pool: PgPoolOptions = one();
                let pool =
                    pool.after_connect(|connection, _| Box::pin(session::postgres(connection)));
                let pool = pool.connect_with(host.clone()).await.map_err(failed)?;
                Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
            }
            Self::MySql(host) => {
                let pool: MySqlPoolOptions = one();
                let pool = pool.after_connect(|connection, _| Box::pin(session::mysql(connection)));
                let pool = pool.connect_with(host.clone()).await.map_err(failed)?;
                Ok(SqlxMySqlConnector::from_sqlx_mysql_pool(pool))
            }
        }
    }

    /// Fails if the server is read-only.
    pub(super) async fn check_writes(&self, connection: &DatabaseConnection) -> Result<(), DbErr> {
        let query = match self {
            Self::Postgres(_) => {
                "SELECT CASE WHEN pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' THEN 1 ELSE 0 END"
            }
            Self::MySql(_) => "SELECT CAST(@@global.read_only AS SIGNED)",
        };
        let query = Statement::from_string(connection.get_database_backend(), query);
        let row = connection.query_one_raw(query).await?;
        let is_read_only = match (self, row) {
            (Self::Postgres(_), Some(row)) => row.try_get_by_index::<i32>(0)? != 0,
            (Self::MySql(_), Some(row)) => row.try_get_by_index::<i64>(0)? != 0,
            (_, None) => true,
        };
        if is_read_only {
            return Err(DbErr::Conn(RuntimeErr::Internal("the server accepts no writes".into())));
        }
        Ok(())
    }
}

fn one<D: sqlx::Database>() -> PoolOptions<D> {
    PoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

pub(super) fn failed(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => timed_out(),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}

pub(super) fn timed_out() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)
}
