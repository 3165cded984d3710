//! Classifies database errors: retry, unavailable, or a defect.

mod class;
mod mysql;
mod postgres;
mod sqlite;

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr, SqlErr,
    sqlx::{
        self, error::DatabaseError as DatabaseErrorTrait, mysql::MySqlDatabaseError,
        postgres::PgDatabaseError,
    },
};

pub(in crate::storage) use self::class::Breakage;
use self::class::Class;
use crate::domain::{
    error::{Cause, Error},
    readiness::Fault,
};

/// The transaction conflicts with another one. The caller retries it.
#[derive(Debug, thiserror::Error)]
#[error("the transaction conflicted with another transaction")]
pub(super) struct Conflict;

/// A lock timeout. The holder may release the lock soon.
#[derive(Debug, thiserror::Error)]
#[error("lock timeout")]
struct Locked;

/// The connection is unusable.
#[derive(Debug, thiserror::Error)]
#[error("the database connection is unusable")]
struct Unusable {
    breakage: Breakage,
    source: Cause,
}

/// The error of a statement that timed out: its connection is unusable.
pub(super) fn unanswered() -> Error {
    let source = "a statement timed out".into();
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
#[error("the column {0} holds an invalid value")]
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
    /// The error with its class.
    fn of(error: &dyn DatabaseErrorTrait) -> (Self, Class) {
        if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
            let (class, fault) = mysql::classify(error.number());
            return (Self { code: error.number().to_string(), fault }, class);
        }
        let code = error.code().unwrap_or_default().into_owned();
        let (class, fault) = if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            postgres::classify(&code)
        } else {
            sqlite::classify(&code)
        };
        (Self { code, fault }, class)
    }
}

impl From<DbErr> for Error {
    fn from(failure: DbErr) -> Self {
        match class(&failure) {
            Class::Conflict => Self::Unavailable(Conflict.into()),
            Class::Locked => Self::Unavailable(Locked.into()),
            Class::Unusable(breakage) => {
                Self::Unavailable(Unusable { breakage, source: cause(failure) }.into())
            }
            Class::Unavailable => Self::Unavailable(cause(failure)),
            Class::Defect => Self::Internal(cause(failure)),
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
        database_error(self).map(|error| DatabaseError::of(error).0.code)
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
    match sqlx_error(&failure) {
        Some(sqlx::Error::Database(error)) => DatabaseError::of(&**error).0.into(),
        // The layers above repeat this text.
        Some(sqlx::Error::Io(error)) => error.to_string().into(),
        _ => failure.into(),
    }
}

fn sqlx_error(failure: &DbErr) -> Option<&sqlx::Error> {
    match failure {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

/// The server's error, if it has answered with one.
pub(super) fn database_error(failure: &DbErr) -> Option<&dyn DatabaseErrorTrait> {
    sqlx_error(failure)?.as_database_error()
}

/// Whether the transaction conflicts with another one, so that a retry may succeed.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Unavailable(cause) if cause.is::<Conflict>())
}

fn class(failure: &DbErr) -> Class {
    // A referenced row was deleted since its check: the retry reports the violation.
    // Or another transaction used the request id: the retry finds its answer.
    if let Some(SqlErr::ForeignKeyConstraintViolation(_) | SqlErr::UniqueConstraintViolation(_)) =
        failure.sql_err()
    {
        return Class::Conflict;
    }
    let Some(error) = sqlx_error(failure) else {
        return match failure {
            // `Internal`: no host accepts writes until a standby is promoted.
            DbErr::ConnectionAcquire(_) | DbErr::Conn(RuntimeErr::Internal(_)) => {
                Class::Unavailable
            }
            _ => Class::Defect,
        };
    };
    match error {
        sqlx::Error::Database(error) => DatabaseError::of(&**error).1,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed => Class::Unusable(Breakage::Broken),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Class::Unavailable
        }
        _ => Class::Defect,
    }
}

#[cfg(test)]
mod tests;
