//! The migration lock: one replica migrates at a time. It belongs to a transaction or a row, not to
//! a session, so it holds through poolers and on every node of a Galera cluster.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, Statement,
    TransactionTrait,
};
use tokio::time::{sleep, timeout};

use super::progress::{Progress, Report};
use crate::storage::{
    connect::{ACQUIRE_TIMEOUT, Engine, OpenError, Options, single},
    failure::Coded,
};

/// How often a waiting replica polls the lock.
const POLL: Duration = Duration::from_millis(250);

/// Polls between two log lines: one minute.
const LOOKS_PER_LINE: u32 = 240;

/// The key is any number that other programs are unlikely to use. The lock belongs to the
/// transaction: a pooler would keep a session's lock. A waiting replica polls, because a concurrent
/// index build waits for every older statement.
const POSTGRES_LOCK: &str = "SELECT pg_try_advisory_xact_lock(7233451094662811)";

/// On a Galera cluster, `GET_LOCK` and row locks hold on one node. A committed row holds on all.
const LEASES: &str = "CREATE TABLE IF NOT EXISTS schema_lease (
    name varchar(64) NOT NULL PRIMARY KEY,
    holder varchar(64) NOT NULL,
    expire_time bigint NOT NULL
) ENGINE = InnoDB";
const HAS_LEASES: &str = "SELECT 1 FROM information_schema.tables \
                          WHERE table_schema = database() AND table_name = 'schema_lease'";
const FREE_LEASE: &str = "INSERT INTO schema_lease (name, holder, expire_time) \
                          VALUES ('migrations', '', 0) ON DUPLICATE KEY UPDATE name = name";

/// Lease time, in seconds. If its holder is killed, other replicas wait this long.
const LEASE_SECONDS: u32 = 20;
/// Timeout of a statement that waits for row locks at most.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of lease renewals and of checks of the lock's connection.
const RENEWAL: Duration = Duration::from_secs(3);

/// The acquired lock.
pub(super) enum Lock {
    Postgres(DatabaseTransaction, DatabaseConnection),
    MySql(Lease),
}

impl Lock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn acquire(
        engine: Engine,
        options: &Options,
        report: Report<'_>,
    ) -> Result<Self, OpenError> {
        let connection = single(options).await?;
        let holder = random_name()?;
        if engine == Engine::MySql {
            in_time(has_leases(&connection)).await?;
        }
        let mut looks = 0;
        loop {
            if engine == Engine::MySql {
                if in_time(take(&connection, &holder)).await? {
                    return Ok(Self::MySql(Lease { connection, holder }));
                }
            } else if let Some(transaction) = in_time(advisory_lock(&connection)).await? {
                return Ok(Self::Postgres(transaction, connection));
            }
            if looks % LOOKS_PER_LINE == 0 {
                report(Progress::OtherReplica);
            }
            looks += 1;
            sleep(POLL).await;
        }
    }

    /// Returns once the lock is lost: its connection times out, or another replica acquires it.
    /// Without this check, a statement could wait forever for a vanished server.
    pub(super) async fn lost(&self) -> OpenError {
        loop {
            sleep(RENEWAL).await;
            let is_held = async {
                match self {
                    Self::Postgres(transaction, _) => {
                        transaction.execute_unprepared("SELECT 1").await.map(|_| true)
                    }
                    Self::MySql(lease) => lease.renew().await,
                }
            };
            match timeout(ACQUIRE_TIMEOUT, is_held).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return lost("another replica has taken the lock of migrations"),
                Ok(Err(error)) => return error.into(),
                Err(_) => return no_answer(),
            }
        }
    }

    /// Releases the lock. After a failure, the lock ends with its connection or expires.
    pub(super) async fn release(self) {
        let release = async {
            match self {
                Self::Postgres(transaction, connection) => {
                    let released = transaction.rollback().await;
                    released.and(connection.close().await)
                }
                Self::MySql(lease) => lease.release().await,
            }
        };
        if !matches!(timeout(ACQUIRE_TIMEOUT, release).await, Ok(Ok(()))) {
            tracing::debug!("the lock of migrations could not be released");
        }
    }
}

/// Runs statements with [`STATEMENT_TIMEOUT`].
///
/// # Errors
/// The statement's error, or [`OpenError::Prepare`] after the timeout.
pub(super) async fn in_time<T, E: Into<OpenError>>(
    run: impl Future<Output = Result<T, E>>,
) -> Result<T, OpenError> {
    timeout(STATEMENT_TIMEOUT, run)
        .await
        .map_or_else(|_| Err(no_answer()), |done| done.map_err(Into::into))
}

fn no_answer() -> OpenError {
    lost("the database server does not answer")
}

fn lost(why: &str) -> OpenError {
    OpenError::Prepare(why.into())
}

/// Creates the table of leases and its row, if they are missing.
async fn has_leases(connection: &DatabaseConnection) -> Result<(), DbErr> {
    if first(connection, HAS_LEASES).await?.is_none() {
        connection.execute_unprepared(LEASES).await?;
    }
    connection.execute_unprepared(FREE_LEASE).await.map(drop)
}

/// Acquires the advisory lock of PostgreSQL, if it is free.
async fn advisory_lock(
    connection: &DatabaseConnection,
) -> Result<Option<DatabaseTransaction>, DbErr> {
    let transaction = connection.begin().await?;
    // The transaction is idle while steps run.
    transaction.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = 0").await?;
    let lock = Statement::from_string(DbBackend::Postgres, POSTGRES_LOCK);
    let row = transaction.query_one_raw(lock).await?;
    if row.map_or(Ok(false), |row| row.try_get_by_index(0))? {
        return Ok(Some(transaction));
    }
    transaction.rollback().await?;
    Ok(None)
}

/// Acquires the lease of MariaDB and MySQL, if it is free or has expired.
async fn take(connection: &DatabaseConnection, holder: &str) -> Result<bool, DbErr> {
    let take = format!(
        "UPDATE schema_lease \
         SET holder = '{holder}', expire_time = UNIX_TIMESTAMP() + {LEASE_SECONDS} \
         WHERE name = 'migrations' AND (holder = '' OR expire_time < UNIX_TIMESTAMP())"
    );
    match connection.execute_unprepared(&take).await {
        Ok(taken) => Ok(taken.rows_affected() == 1),
        // Another node of the cluster acquired the lease first.
        Err(failure) if is_conflict(&failure) => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn is_conflict(failure: &DbErr) -> bool {
    failure.code().is_some_and(|code| ["1213", "1205", "1020"].contains(&&*code))
}

async fn first(connection: &DatabaseConnection, query: &str) -> Result<Option<i64>, DbErr> {
    let query = Statement::from_string(DbBackend::MySql, query);
    let row = connection.query_one_raw(query).await?;
    row.map(|row| row.try_get_by_index(0)).transpose()
}

/// A unique name for this replica.
fn random_name() -> Result<String, DbErr> {
    let mut name = [0; 16];
    let random = SystemRandom::new().fill(&mut name);
    random.map_err(|_| DbErr::Custom("the system gives no random bytes".to_owned()))?;
    Ok(hex::encode(name))
}

/// A lease, which [`Lock::lost`] renews.
pub(super) struct Lease {
    connection: DatabaseConnection,
    holder: String,
}

impl Lease {
    /// Renews the lease. Returns false if another replica holds it.
    async fn renew(&self) -> Result<bool, DbErr> {
        let renew = format!(
            "UPDATE schema_lease SET expire_time = UNIX_TIMESTAMP() + {LEASE_SECONDS} \
             WHERE name = 'migrations' AND holder = '{}'",
            self.holder
        );
        match self.connection.execute_unprepared(&renew).await {
            Ok(renewed) => Ok(renewed.rows_affected() == 1),
            // Conflict with another node of the cluster. The next renewal is soon enough.
            Err(failure) if is_conflict(&failure) => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    async fn release(self) -> Result<(), DbErr> {
        let Self { connection, holder } = self;
        let release = format!(
            "UPDATE schema_lease SET holder = '' WHERE name = 'migrations' AND holder = '{holder}'"
        );
        let released = connection.execute_unprepared(&release).await.map(drop);
        released.and(connection.close().await)
    }
}
