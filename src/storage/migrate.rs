//! Brings the schema up to date. One replica migrates, and the others wait. Calls on serving
//! replicas wait at most two seconds: a step without its lock is retried after a pause.

mod compatible;
mod lock;
mod plan;
mod progress;

use std::time::{Duration, Instant};

use m4_user_details_migrations::{Record, Step, steps};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, TransactionTrait};
use tokio::time::{sleep, timeout};

use self::{
    compatible::{check_compatible, check_up_to_date},
    lock::{Lock, in_time},
    progress::log,
};
pub use self::{
    plan::{PlannedStep, StepState, plan},
    progress::{Progress, Report},
};
use super::{
    connect::{ACQUIRE_TIMEOUT, Engine, OpenError, Options, UrlError, check, single},
    demo,
    failure::Coded,
    sqlite_url::check_file,
    token_key,
};

/// Pause between two attempts to lock a table, in which other calls run.
const LOCK_BACKOFF: Duration = Duration::from_secs(3);

/// Pauses between two log lines: one minute.
const PAUSES_PER_LINE: u32 = 20;

/// Attempts of a step that fails because another program has just done the same.
const MAX_STEP_ATTEMPTS: u32 = 3;

/// Lock timeout and deadlock, on PostgreSQL, then on MariaDB and MySQL.
const LOCKED: [&str; 4] = ["55P03", "40P01", "1205", "1213"];
/// The table, column, index or row exists already.
const DONE: [&str; 8] = ["42P07", "42701", "42710", "23505", "1050", "1060", "1061", "1062"];

/// A wait for a table lock delays every later call on the table. An index build has no timeout.
const POSTGRES_SESSION: &str = "SET lock_timeout = '2s'; SET statement_timeout = 0";
const MYSQL_SESSION: &str = "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2 \
                             /*M!100100 , max_statement_time = 0 */";

/// Brings the schema up to date. With `demo`, fills a database without accounts with the demo data.
/// Waits as long as other transactions lock the tables.
///
/// # Errors
/// [`OpenError`]: the database does not answer, a step fails (it can be retried), a newer version
/// has made the schema incompatible, or `demo` finds other data.
pub async fn migrate(options: &Options, demo: bool) -> Result<(), OpenError> {
    migrate_with(options, demo, &log).await
}

/// Like [`migrate`], with another receiver of the events.
///
/// # Errors
/// As for [`migrate`].
pub async fn migrate_with(
    options: &Options,
    demo: bool,
    report: Report<'_>,
) -> Result<(), OpenError> {
    run(options, &steps(), demo, report).await
}

/// Like [`migrate`], with other steps.
///
/// # Errors
/// As for [`migrate`].
pub async fn migrate_by(options: &Options, steps: &[Step], demo: bool) -> Result<(), OpenError> {
    run(options, steps, demo, &log).await
}

async fn run(
    options: &Options,
    steps: &[Step],
    demo: bool,
    report: Report<'_>,
) -> Result<(), OpenError> {
    let engine = Engine::from_url(&options.url).ok_or(UrlError::Scheme)?;
    check_file(&options.url)?;
    check(options).await?;
    let connection = single(options).await?;
    let migrated = in_time(check_compatible(&connection, steps)).await;
    let migrated = match (migrated, engine) {
        (Err(refused), _) => Err(refused),
        (Ok(()), Engine::Sqlite) => sqlite(&connection, steps, demo, report).await,
        (Ok(()), Engine::Postgres | Engine::MySql) => {
            server(engine, options, &connection, steps, demo, report).await
        }
    };
    // Closing a connection to a vanished server could hang.
    let closed = timeout(ACQUIRE_TIMEOUT, connection.close()).await;
    migrated.and(closed.map_or(Ok(()), |closed| closed.map_err(Into::into)))
}

/// Checks that the schema is up to date, and that this version may run on it. Changes nothing.
///
/// # Errors
/// [`OpenError`]: the database does not answer or is unfit, steps are pending, or a newer version has
/// made the schema incompatible.
pub(super) async fn check_schema(options: &Options) -> Result<(), OpenError> {
    check(options).await?;
    let connection = single(options).await?;
    let checked = in_time(check_up_to_date(&connection, &steps())).await;
    let _ = timeout(ACQUIRE_TIMEOUT, connection.close()).await;
    checked
}

/// Migrates SQLite: one transaction has all steps and the demo data.
async fn sqlite(
    connection: &DatabaseConnection,
    steps: &[Step],
    demo: bool,
    report: Report<'_>,
) -> Result<(), OpenError> {
    connection.execute_unprepared("BEGIN IMMEDIATE").await?;
    check_compatible(connection, steps).await?;
    let record = Record::open(connection).await?;
    let mut applied = Vec::new();
    for step in steps.iter().filter(|step| !record.has(step)) {
        let begun = Instant::now();
        step.apply(connection).await?;
        applied.push((step.name(), begun.elapsed()));
    }
    token_key::create(connection).await?;
    if demo && !demo::fill(connection).await? {
        return Err(OpenError::NotDemo);
    }
    connection.execute_unprepared("COMMIT").await?;
    for (step, took) in applied {
        report(Progress::Applied { step, took });
    }
    Ok(())
}

async fn server(
    engine: Engine,
    options: &Options,
    connection: &DatabaseConnection,
    steps: &[Step],
    demo: bool,
    report: Report<'_>,
) -> Result<(), OpenError> {
    let lock = Lock::acquire(engine, options, report).await?;
    let migrated = tokio::select! {
        migrated = locked(engine, connection, steps, demo, report) => migrated,
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
    report: Report<'_>,
) -> Result<(), OpenError> {
    // Another replica may have migrated meanwhile.
    check_compatible(connection, steps).await?;
    let record = Record::open(connection).await?;
    for step in steps.iter().filter(|step| !record.has(step)) {
        let begun = Instant::now();
        let applied = run_with_lock_retry(engine, connection, Work::Step(step), report).await;
        applied.map_err(|failure| refused_trigger(step, failure))?;
        report(Progress::Applied { step: step.name(), took: begun.elapsed() });
    }
    run_with_lock_retry(engine, connection, Work::TokenKey, report).await?;
    if demo && !run_with_lock_retry(engine, connection, Work::Demo, report).await? {
        return Err(OpenError::NotDemo);
    }
    Ok(())
}

/// The database user may not create triggers: privilege `TRIGGER`, `SUPER` with a binary log, and
/// the privileges of PostgreSQL.
const MAY_NOT: [&str; 4] = ["1142", "1227", "1419", "42501"];

/// Says what to do if the server refuses a trigger.
fn refused_trigger(step: &Step, failure: DbErr) -> OpenError {
    match failure.code().as_deref() {
        Some(code) if step.is_trigger() && MAY_NOT.contains(&code) => {
            let remedy = match code {
                "1419" => {
                    "SET GLOBAL log_bin_trust_function_creators = 1 until it is done, or run \
                     `migrate` as a user with SUPER"
                }
                "42501" => "run `migrate` as the owner of the tables",
                _ => "GRANT TRIGGER on the database to the user of database.url",
            };
            let step = step.name();
            let cause = format!("the step {step} may not create a trigger ({code}): {remedy}");
            OpenError::Prepare(cause.into())
        }
        _ => failure.into(),
    }
}

/// Work under the lock. Each item can be retried.
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

    /// Runs one attempt. Returns false if the database rejects the demo data.
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

/// Retries until the locks are free.
async fn run_with_lock_retry(
    engine: Engine,
    connection: &DatabaseConnection,
    work: Work<'_>,
    report: Report<'_>,
) -> Result<bool, DbErr> {
    let session = if engine == Engine::Postgres { POSTGRES_SESSION } else { MYSQL_SESSION };
    let (mut pauses, mut attempts) = (0, 1);
    loop {
        // Set for each attempt: the pool may have replaced the connection.
        connection.execute_unprepared(session).await?;
        let failure = match work.attempt(connection).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        match failure.code().as_deref() {
            Some(code) if LOCKED.contains(&code) => {
                if pauses % PAUSES_PER_LINE == 0 {
                    report(Progress::Locked { work: work.name() });
                }
                pauses += 1;
                sleep(LOCK_BACKOFF).await;
            }
            Some(code) if DONE.contains(&code) && attempts < MAX_STEP_ATTEMPTS => attempts += 1,
            _ => return Err(failure),
        }
    }
}
