//! Checks a database once, before the first write.

use std::time::Duration;

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, Connection, PgConnection, Row, postgres::PgConnectOptions},
};
use tokio::time::timeout;

use super::{
    ACQUIRE_TIMEOUT, Engine, OpenError, Options, Unfit,
    fitness::{Fitness, check_server},
    servers::{Connector, HOST_TIMEOUT},
    url::{Host, ServerUrl},
};

/// Checks the server of a URL, and logs its weaknesses. A SQLite file always passes.
///
/// # Errors
/// [`OpenError::Unfit`], [`OpenError::Refused`], [`OpenError::Unreachable`].
pub(in crate::storage) async fn check(options: &Options) -> Result<(), OpenError> {
    if Engine::from_url(&options.url) != Some(Engine::Sqlite) {
        fitness(options).await?.log();
    }
    Ok(())
}

/// Checks the server of a URL, which is no SQLite file.
///
/// # Errors
/// [`OpenError::Unfit`], [`OpenError::Refused`], [`OpenError::Unreachable`].
pub(in crate::storage) async fn fitness(options: &Options) -> Result<Fitness, OpenError> {
    let url = &ServerUrl::read(&options.url)?;
    let no_answer =
        |problem: &str| OpenError::Unreachable { server: url.describe(), source: problem.into() };
    let check = async {
        match is_any_pooled(url).await {
            Ok(Some(true)) => return Err(Unfit::Pooler.into()),
            Ok(Some(false)) => {}
            Ok(None) => return Err(no_answer("it accepts connections and does not answer")),
            Err(failure) => return Err(OpenError::of_connection(failure, url)),
        }
        let connection = Connector::unchecked(url.clone()).connect().await;
        let connection = connection.map_err(|failure| OpenError::of_connection(failure, url))?;
        let checked = check_server(&connection).await;
        // A failed close does not change the result.
        let _ = connection.close().await;
        checked
    };
    let checked = timeout(ACQUIRE_TIMEOUT * 2, check).await;
    checked.unwrap_or_else(|_| Err(no_answer("it does not answer in time")))
}

/// Whether a pooler is in front of the first host that answers. All hosts have one, or none. `None` if
/// the last host does not answer in time.
async fn is_any_pooled(url: &ServerUrl) -> Result<Option<bool>, DbErr> {
    let patience = if url.hosts.len() > 1 { HOST_TIMEOUT } else { ACQUIRE_TIMEOUT };
    let mut is_any = Ok(Some(false));
    for host in &url.hosts {
        let Host::Postgres(host) = host else { return Ok(Some(false)) };
        is_any = timeout(patience, is_pooled(host)).await.ok().transpose();
        if let Ok(Some(_)) = is_any {
            break;
        }
    }
    is_any
}

/// Whether two connections share a server session, or one connection changes sessions: a pooler
/// assigns a session per transaction. Changes no session setting.
async fn is_pooled(host: &PgConnectOptions) -> Result<bool, DbErr> {
    const ROUNDS: usize = 3;
    let connect = async || PgConnection::connect_with(host).await.map_err(lost);
    let (mut one, mut other) = (connect().await?, connect().await?);
    let mut is_pooled = false;
    for _ in 0..ROUNDS {
        let first = session_of(&mut one).await.map_err(lost)?;
        is_pooled |= session_of(&mut one).await.map_err(lost)? != first;
        let begun = sqlx::raw_sql("BEGIN; SELECT pg_backend_pid()").fetch_one(&mut other).await;
        let second: i32 = match begun {
            Ok(row) => row.try_get(0).map_err(lost)?,
            // A pooler in statement mode rejects `BEGIN`.
            Err(sqlx::Error::Database(_)) => return Ok(true),
            Err(error) => return Err(lost(error)),
        };
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.map_err(lost)?;
        is_pooled |= first == second;
    }
    for connection in [one, other] {
        let _ = timeout(Duration::from_secs(1), connection.close()).await;
    }
    Ok(is_pooled)
}

/// The process id of the server session. The simple protocol prepares no statement.
async fn session_of(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

fn lost(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}
