//! Classifies database errors: retry, unavailable, or a defect.

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr, SqlErr,
    sqlx::{self, error::DatabaseError as DatabaseErrorTrait},
};

use super::fault;
use crate::domain::{
    error::{Cause, Error},
    readiness::Fault,
};

/// The class of a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Conflict,
    Locked,
    Unusable(Breakage),
    Unavailable,
    Defect,
}

/// Why a connection is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Breakage {
    /// The connection is broken. Other connections may be broken too, and are checked before use.
    Broken,
    /// Prepared statements are invalid, on this connection and on all other existing connections.
    Stale,
    /// The server is read-only. A new connection may reach a writable server.
    ReadOnly,
}

/// The transaction conflicts with another one. The caller retries it.
#[derive(Debug, thiserror::Error)]
#[error("the transaction lost against another one")]
pub(super) struct Conflict;

/// A lock timeout. The holder may release the lock soon.
#[derive(Debug, thiserror::Error)]
#[error("a lock was not had in time")]
struct Locked;

/// The connection is unusable.
#[derive(Debug, thiserror::Error)]
#[error("a connection to the database is of no use any more")]
struct Unusable {
    breakage: Breakage,
    source: Cause,
}

/// The error of a statement that timed out: its connection is unusable.
pub(super) fn unanswered() -> Error {
    let source = "a statement was not answered".into();
    Error::Unavailable(Unusable { breakage: Breakage::Broken, source }.into())
}

/// The breakage of the connection, if the error reports one.
pub(super) fn breakage(error: &Error) -> Option<Breakage> {
    let Error::Unavailable(cause) = error else { return None };
    cause.downcast_ref::<Unusable>().map(|unusable| unusable.breakage)
}

/// The cause inside an [`Unusable`], or the cause itself.
pub(super) fn source(cause: &Cause) -> &Cause {
    cause.downcast_ref::<Unusable>().map_or(cause, |unusable| &unusable.source)
}

/// A column with a value that no version of this service writes.
#[derive(Debug, thiserror::Error)]
#[error("the column {0} holds what it cannot")]
pub(super) struct Corrupt(pub(super) &'static str);

impl From<Corrupt> for Error {
    fn from(corrupt: Corrupt) -> Self {
        Self::Internal(corrupt.into())
    }
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether the commit failed. The transaction may still be stored.
    at_commit: bool,
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), at_commit: false }
    }
}

impl Failure {
    pub(super) fn at_commit(error: impl Into<Error>) -> Self {
        Self { error: error.into(), at_commit: true }
    }

    /// The breakage of the connection, if there is one.
    pub(super) fn breakage(&self) -> Option<Breakage> {
        breakage(&self.error)
    }

    /// Whether the connection failed before the commit: a retry on another connection is safe.
    pub(super) fn is_of_connection(&self) -> bool {
        !self.at_commit && self.breakage().is_some()
    }

    /// Whether nothing was stored and a retry of single updates may succeed.
    pub(super) fn may_be_repeated(&self) -> bool {
        let harmed_by_one = match &self.error {
            Error::Internal(_) => true,
            Error::Unavailable(cause) => cause.is::<Locked>(),
            _ => false,
        };
        is_conflict(&self.error) || (!self.at_commit && harmed_by_one)
    }
}

/// A database's error code. Its text is dropped: the text may contain stored values.
#[derive(Debug)]
pub(super) struct DatabaseError {
    code: String,
    /// The fault of the whole database, if the code reports one.
    pub(super) fault: Option<Fault>,
}

impl std::error::Error for DatabaseError {}

impl std::fmt::Display for DatabaseError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the database answers with error {}", self.code)?;
        self.fault.map_or(Ok(()), |fault| write!(formatter, ": {fault}"))
    }
}

impl DatabaseError {
    fn of(error: &dyn DatabaseErrorTrait) -> Self {
        let code = code(error);
        let fault = if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        {
            fault::mysql(error.number())
        } else if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
            fault::postgres(&code)
        } else {
            return Self::of_sqlite(code);
        };
        Self { code, fault }
    }

    /// Classifies an extended result code of SQLite.
    fn of_sqlite(code: String) -> Self {
        let fault = primary(&code).and_then(fault::sqlite);
        Self { code, fault }
    }
}

impl From<DbErr> for Error {
    fn from(failure: DbErr) -> Self {
        let meaning = meaning(&failure);
        match meaning {
            Meaning::Conflict => Self::Unavailable(Conflict.into()),
            Meaning::Locked => Self::Unavailable(Locked.into()),
            Meaning::Unusable(breakage) => {
                Self::Unavailable(Unusable { breakage, source: cause(failure) }.into())
            }
            Meaning::Unavailable => Self::Unavailable(cause(failure)),
            Meaning::Defect => Self::Internal(cause(failure)),
        }
    }
}

/// The error of a statement.
pub(super) trait Coded {
    /// The database's error code, or `None` if another layer failed.
    fn code(&self) -> Option<String>;

    /// Whether acquiring a connection from the pool timed out.
    fn is_of_pool(&self) -> bool;
}

impl Coded for DbErr {
    fn code(&self) -> Option<String> {
        database_error(self).map(code)
    }

    fn is_of_pool(&self) -> bool {
        matches!(self, Self::ConnectionAcquire(ConnAcquireErr::Timeout))
    }
}

/// For reads of settings, which also parse their rows.
impl Coded for Error {
    fn code(&self) -> Option<String> {
        match self {
            Self::Unavailable(cause) | Self::Internal(cause) => {
                source(cause).downcast_ref::<DatabaseError>().map(|error| error.code.clone())
            }
            _ => None,
        }
    }

    fn is_of_pool(&self) -> bool {
        match self {
            Self::Unavailable(cause) => {
                cause.downcast_ref::<DbErr>().is_some_and(Coded::is_of_pool)
            }
            _ => false,
        }
    }
}

/// The cause that is safe to log: the code instead of the database's text.
pub(super) fn cause(failure: DbErr) -> Cause {
    match database_error(&failure) {
        Some(error) => DatabaseError::of(error).into(),
        None => failure.into(),
    }
}

fn database_error(failure: &DbErr) -> Option<&dyn DatabaseErrorTrait> {
    match failure {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => error.as_database_error(),
        _ => None,
    }
}

fn code(error: &dyn DatabaseErrorTrait) -> String {
    match error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        Some(error) => error.number().to_string(),
        None => error.code().unwrap_or_default().into_owned(),
    }
}

/// Whether the transaction conflicts with another one, so that a retry may succeed.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Unavailable(cause) if cause.is::<Conflict>())
}

fn meaning(failure: &DbErr) -> Meaning {
    // A referenced row was deleted since its check: the retry reports the violation.
    // Or another transaction used the request id: the retry finds its answer.
    if let Some(SqlErr::ForeignKeyConstraintViolation(_) | SqlErr::UniqueConstraintViolation(_)) =
        failure.sql_err()
    {
        return Meaning::Conflict;
    }
    let error = match failure {
        DbErr::ConnectionAcquire(_) => return Meaning::Unavailable,
        // No host accepts writes until a standby is promoted.
        DbErr::Conn(RuntimeErr::Internal(_)) => return Meaning::Unavailable,
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => error,
        _ => return Meaning::Defect,
    };
    match &**error {
        sqlx::Error::Database(error) => {
            let error = &**error;
            if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
                return mysql(error.number());
            }
            if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                return postgres(&code(error));
            }
            sqlite(&code(error))
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => Meaning::Unusable(Breakage::Broken),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Meaning::Unavailable
        }
        _ => Meaning::Defect,
    }
}

/// Error numbers of MariaDB and MySQL.
fn mysql(number: u16) -> Meaning {
    match number {
        // Record changed since last read; deadlock; certification conflict of a Galera cluster.
        1020 | 1213 => Meaning::Conflict,
        // Lock wait timeout; statement timeout.
        1205 | 1969 => Meaning::Locked,
        // Read-only server or transaction.
        1290 | 1792 | 1836 => Meaning::Unusable(Breakage::ReadOnly),
        // Unknown prepared statement; the statement must be prepared again.
        1243 | 1615 => Meaning::Unusable(Breakage::Stale),
        // No quorum, shutdown, aborted connection, network, failed commit (as on a Galera node
        // without quorum), connection killed, idle timeout.
        1047 | 1053 | 1152 | 1158..=1161 | 1180 | 1927 | 4031 => {
            Meaning::Unusable(Breakage::Broken)
        }
        // Too many connections, interrupted.
        1040 | 1203 | 1317 => Meaning::Unavailable,
        _ => of_fault(fault::mysql(number)),
    }
}

/// SQLSTATEs of PostgreSQL.
fn postgres(code: &str) -> Meaning {
    match code {
        // Serialization failure, deadlock.
        "40001" | "40P01" => Meaning::Conflict,
        // Lock not available; query canceled by the statement timeout.
        "55P03" | "57014" => Meaning::Locked,
        // Read-only transaction: a standby.
        "25006" => Meaning::Unusable(Breakage::ReadOnly),
        // Cached plan with a changed result type; unknown or duplicate prepared statement.
        "0A000" | "26000" | "42P05" => Meaning::Unusable(Breakage::Stale),
        // Shutdown, kill, crash, startup, dropped database, idle timeouts; 08: connection.
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" => {
            Meaning::Unusable(Breakage::Broken)
        }
        _ if code.starts_with("08") => Meaning::Unusable(Breakage::Broken),
        // Resources, operator intervention, system.
        _ if ["53", "57", "58"].iter().any(|class| code.starts_with(class)) => Meaning::Unavailable,
        _ => Meaning::Defect,
    }
}

/// Extended result codes of SQLite.
fn sqlite(code: &str) -> Meaning {
    of_fault(primary(code).and_then(fault::sqlite))
}

/// The primary result code: the low byte of an extended code.
fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// Corruption is a defect and no outage: the next call may succeed.
fn of_fault(fault: Option<Fault>) -> Meaning {
    match fault {
        None | Some(Fault::Corrupt) => Meaning::Defect,
        Some(_) => Meaning::Unavailable,
    }
}

#[cfg(test)]
mod tests;
