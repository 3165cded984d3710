//! Brings the schema up to date. Of several replicas that start at once, one does it and the others wait. Calls of replicas
//! that serve meanwhile wait for two seconds at most: a step that does not get its lock is tried again after a pause.

mod lock;

use std::time::Duration;

use m4_user_details_migrations::{Record, Step, newer, steps};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, TransactionTrait};
use tokio::time::{sleep, timeout};

use self::lock::{Lock, in_time};
use super::{
    connect::{Engine, OpenError, Options, PATIENCE, UrlError, check, single},
    demo,
    failure::Coded,
    sqlite_url::check_file,
    token_key,
};

/// How long other calls get between two attempts to lock a table.
const PAUSE: Duration = Duration::from_secs(3);

/// How many pauses there are between two lines of the log: a minute.
const PAUSES_PER_LINE: u32 = 20;

/// How often a step is tried that fails because another program has just done the same.
const ATTEMPTS: u32 = 3;

/// Lock timeout, deadlock: of PostgreSQL, then of MariaDB and MySQL.
const LOCKED: [&str; 4] = ["55P03", "40P01", "1205", "1213"];
/// A table, a column, an index or a row is there already.
const DONE: [&str; 8] = ["42P07", "42701", "42710", "23505", "1050", "1060", "1061", "1062"];

/// To wait for a lock of a table delays every later call on the table. An index takes as long as it takes.
const POSTGRES_SESSION: &str = "SET lock_timeout = '2s'; SET statement_timeout = 0";
const MYSQL_SESSION: &str = "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2 \
                             /*M!100100 , max_statement_time = 0 */";

/// Brings the schema up to date; with `demo`, fills a database that has no account with the demo data. It waits for as long
/// as other transactions lock the tables.
///
/// # Errors
/// [`OpenError`]: the database does not answer, a step fails (it can be repeated), a newer version has changed the schema so
/// that this one must not run on it, or there is other data.
pub async fn migrate(options: &Options, demo: bool) -> Result<(), OpenError> {
    migrate_by(options, &steps(), demo).await
}

/// The same with other steps than those of this version.
///
/// # Errors
/// Those of [`migrate`].
pub async fn migrate_by(options: &Options, steps: &[Step], demo: bool) -> Result<(), OpenError> {
    let engine = Engine::from_url(&options.url).ok_or(UrlError::Scheme)?;
    check_file(&options.url)?;
    check(options).await?;
    let connection = single(options).await?;
    let migrated = in_time(refused(&connection, steps)).await;
    let migrated = match (migrated, engine) {
        (Err(refused), _) => Err(refused),
        (Ok(()), Engine::Sqlite) => sqlite(&connection, steps, demo).await,
        (Ok(()), Engine::Postgres | Engine::MySql) => {
            server(engine, options, &connection, steps, demo).await
        }
    };
    // A server that has vanished does not take its end.
    let closed = timeout(PATIENCE, connection.close()).await;
    migrated.and(closed.map_or(Ok(()), |closed| closed.map_err(Into::into)))
}

/// Checks that this version may run on a database as it is, without a change of the schema.
///
/// # Errors
/// [`OpenError`]: the database does not answer or is not fit, or a newer version has changed the
/// schema so that this one must not run on it.
pub(super) async fn check_schema(options: &Options) -> Result<(), OpenError> {
    check(options).await?;
    let connection = single(options).await?;
    let checked = in_time(refused(&connection, &steps())).await;
    let _ = timeout(PATIENCE, connection.close()).await;
    checked
}

/// Refuses a schema on which this version must not run.
async fn refused(connection: &DatabaseConnection, steps: &[Step]) -> Result<(), OpenError> {
    match newer(connection, steps).await? {
        None => Ok(()),
        Some(newer) => Err(OpenError::Newer { step: newer.step, reason: newer.reason }),
    }
}

/// On SQLite, everything is one transaction.
async fn sqlite(
    connection: &DatabaseConnection,
    steps: &[Step],
    demo: bool,
) -> Result<(), OpenError> {
    connection.execute_unprepared("BEGIN IMMEDIATE").await?;
    refused(connection, steps).await?;
    let record = Record::open(connection).await?;
    for step in steps.iter().filter(|step| !record.has(step)) {
        step.apply(connection).await?;
    }
    token_key::create(connection).await?;
    if demo && !demo::fill(connection).await? {
        return Err(OpenError::NotDemo);
    }
    connection.execute_unprepared("COMMIT").await?;
    Ok(())
}

async fn server(
    engine: Engine,
    options: &Options,
    connection: &DatabaseConnection,
    steps: &[Step],
    demo: bool,
) -> Result<(), OpenError> {
    let lock = Lock::acquire(engine, options).await?;
    let migrated = tokio::select! {
        migrated = locked(engine, connection, steps, demo) => migrated,
        lost = lock.lost() => Err(lost),
    };
    lock.release().await;
    migrated
}

async fn locked(
    engine: Engine,
    connection: &DatabaseConnection,
    steps: &[Step],
    demo: bool,
) -> Result<(), OpenError> {
    // Another replica may have migrated meanwhile.
    refused(connection, steps).await?;
    let record = Record::open(connection).await?;
    for step in steps.iter().filter(|step| !record.has(step)) {
        patiently(engine, connection, Work::Step(step)).await?;
        tracing::info!(step = step.name(), "a step of the schema was applied");
    }
    patiently(engine, connection, Work::TokenKey).await?;
    if demo && !patiently(engine, connection, Work::Demo).await? {
        return Err(OpenError::NotDemo);
    }
    Ok(())
}

/// What is done while the lock is held. Each can be repeated.
#[derive(Clone, Copy)]
enum Work<'a> {
    Step(&'a Step),
    TokenKey,
    Demo,
}

impl Work<'_> {
    fn name(self) -> &'static str {
        match self {
            Self::Step(step) => step.name(),
            Self::TokenKey => "token key",
            Self::Demo => "demo data",
        }
    }

    /// Tries it once. Answers false where it is refused.
    async fn attempt(self, connection: &DatabaseConnection) -> Result<bool, DbErr> {
        match self {
            Self::Step(step) => step.apply(connection).await?,
            Self::TokenKey => token_key::create(connection).await?,
            // All or nothing: a process that is killed midway leaves an empty database.
            Self::Demo => {
                let transaction = connection.begin().await?;
                let filled = demo::fill(&transaction).await?;
                transaction.commit().await?;
                return Ok(filled);
            }
        }
        Ok(true)
    }
}

/// Tries again, for as long as it takes, where a lock is not free.
async fn patiently(
    engine: Engine,
    connection: &DatabaseConnection,
    work: Work<'_>,
) -> Result<bool, DbErr> {
    let session = if engine == Engine::Postgres { POSTGRES_SESSION } else { MYSQL_SESSION };
    let (mut pauses, mut attempts) = (0, 1);
    loop {
        // Each time, as the pool may have replaced the connection.
        connection.execute_unprepared(session).await?;
        let failure = match work.attempt(connection).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        match failure.code().as_deref() {
            Some(code) if LOCKED.contains(&code) => {
                if pauses % PAUSES_PER_LINE == 0 {
                    tracing::warn!(
                        work = work.name(),
                        "the schema is not up to date yet: an open transaction locks a table"
                    );
                }
                pauses += 1;
                sleep(PAUSE).await;
            }
            Some(code) if DONE.contains(&code) && attempts < ATTEMPTS => attempts += 1,
            _ => return Err(failure),
        }
    }
}
