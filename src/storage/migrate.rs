//! Brings the schema up to date. Of several replicas that start at once, one does it and the others wait.

use m4_user_details_migrations::Migrator;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait;

use super::{
    connect::{Engine, OpenError, Options, learn_product, single},
    demo,
};

/// To wait for the lock, and to build an index, takes longer than what the service does.
const MYSQL_PATIENCE: &str =
    "SET SESSION lock_wait_timeout = 60 /*M!100100 , max_statement_time = 0 */";

/// Names the lock: "m4 user details", by any number that others are unlikely to use.
const POSTGRES_LOCK: &str = "SELECT pg_advisory_lock(7233451094662811)";
const MYSQL_LOCK: &str = "SELECT GET_LOCK('m4-user-details migrations', 60)";

/// Brings the schema up to date; with `demo`, fills a database that has no account with the demo data.
///
/// # Errors
/// [`OpenError`]: the database does not answer, a step fails (it can be repeated), or there is other data.
pub async fn migrate(options: &Options, demo: bool) -> Result<(), OpenError> {
    let engine = Engine::from_url(&options.url).ok_or(OpenError::Url)?;
    // One connection: the lock is its own, and goes with it whatever happens.
    let connection = single(options)?;
    let migrated = locked(engine, &connection, demo).await;
    connection.close().await?;
    migrated
}

async fn locked(
    engine: Engine,
    connection: &DatabaseConnection,
    demo: bool,
) -> Result<(), OpenError> {
    match engine {
        Engine::Sqlite => {
            connection.execute_unprepared("BEGIN IMMEDIATE").await?;
        }
        Engine::Postgres => {
            connection.execute_unprepared("SET lock_timeout = '60s'").await?;
            connection.execute_unprepared("SET statement_timeout = '120s'").await?;
            connection.execute_unprepared(POSTGRES_LOCK).await?;
        }
        Engine::MySql => {
            learn_product(connection).await?;
            connection.execute_unprepared(MYSQL_PATIENCE).await?;
            let lock = Statement::from_string(DbBackend::MySql, MYSQL_LOCK);
            let row = connection.query_one_raw(lock).await?;
            let got: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
            if got != Some(1) {
                return Err(DbErr::Custom("another replica is migrating".to_owned()).into());
            }
        }
    }
    Migrator::up(connection, None).await?;
    if demo {
        demo::fill(connection).await?;
    }
    if engine == Engine::Sqlite {
        connection.execute_unprepared("COMMIT").await?;
    }
    Ok(())
}
