//! Why a database cannot be opened.

use sea_orm::{DbErr, sqlx::mysql::MySqlDatabaseError};

use super::url::{ServerUrl, UrlError};
use crate::{
    domain::error::Cause,
    storage::{
        failure::{cause, database_error},
        sqlite_url::SqliteUrlError,
    },
};

/// Why a database could not be opened. Of the URL it contains hosts, database and user, and no secret.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be used.
    #[error("the database URL cannot be used")]
    Url(#[from] UrlError),
    /// The URL or the file of a SQLite database cannot be used.
    #[error(transparent)]
    Sqlite(#[from] SqliteUrlError),
    /// The server does not meet the service's requirements.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Demo data was requested for a database that has other data.
    #[error("the database is not empty: demo data cannot be loaded")]
    NotDemo,
    /// A newer version made a schema change that excludes this version.
    #[error(
        "the schema of the database is of a newer version, which excludes this version ({step}: {reason}): run the newer version, or restore an older backup"
    )]
    Newer {
        /// The migration.
        step: String,
        /// The newer version's reason.
        reason: String,
    },
    /// The schema lacks steps.
    #[error("the schema is not up to date, {0} steps are pending: run `migrate`")]
    Pending(usize),
    /// The server does not answer.
    #[error("no answer from the database {server}")]
    Unreachable {
        /// The server, with its database and user.
        server: String,
        /// The cause.
        source: Cause,
    },
    /// The server refuses the login, or has no such database. Only configuration can help.
    #[error("the database {server} refuses the connection: {}: {}", .refusal.said, .refusal.advice)]
    Refused {
        /// The server, with its database and user.
        server: String,
        /// The server's reason.
        refusal: Refusal,
    },
    /// The database does not answer, or its schema cannot be brought up to date.
    #[error("the database cannot be prepared")]
    Prepare(#[source] Cause),
}

impl OpenError {
    /// Whether a retry may succeed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Prepare(_) | Self::Unreachable { .. })
    }

    /// The error of a connection to a server.
    pub(super) fn of_connection(failure: DbErr, url: &ServerUrl) -> Self {
        let server = url.describe();
        match Refusal::of(&failure) {
            Some(refusal) => Self::Refused { server, refusal },
            None => Self::Unreachable { server, source: cause(failure) },
        }
    }
}

impl From<DbErr> for OpenError {
    fn from(failure: DbErr) -> Self {
        Self::Prepare(cause(failure))
    }
}

/// Why a server refuses a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The server's text. At a login it contains no stored value.
    pub said: String,
    /// What to do.
    pub advice: &'static str,
}

impl Refusal {
    fn of(failure: &DbErr) -> Option<Self> {
        let error = database_error(failure)?;
        let (said, number) = match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) => (error.message(), error.number().to_string()),
            None => (error.message(), error.code().unwrap_or_default().into_owned()),
        };
        let advice = match &*number {
            "28000" | "28P01" | "1045" | "1698" => {
                "check user name and password in `database.url`, and whom the server lets in from here"
            }
            "3D000" | "1049" => "create the database, or correct its name in `database.url`",
            "42501" | "1044" => "grant the user the rights on the database",
            _ => return None,
        };
        Some(Self { said: said.to_owned(), advice })
    }
}

/// Why a server is unfit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another product that speaks the protocol of a supported server.
    #[error("the database is {0}: only PostgreSQL, MariaDB, MySQL and SQLite are supported")]
    Product(String),
    /// The server is too old for the SQL statements.
    #[error("the database is {product} {found}: version {least} or later is needed")]
    Version {
        /// The product's name.
        product: &'static str,
        /// The server's version.
        found: String,
        /// The oldest supported version.
        least: &'static str,
    },
    /// The database encoding is not UTF-8.
    #[error("the encoding of the database is {0}: create it with ENCODING 'UTF8'")]
    Encoding(String),
    /// An acknowledged update could be lost.
    #[error(
        "{setting} is {found} on the database server: an update that was answered could be lost; set it to {needed}"
    )]
    Durability {
        /// The server's setting.
        setting: &'static str,
        /// The current value.
        found: String,
        /// The required value.
        needed: &'static str,
    },
    /// A table's storage engine is not `InnoDB`, and may lack transactions.
    #[error(
        "the table {table} has the storage engine {engine}, which could lose an update that was answered: ALTER TABLE {table} ENGINE = InnoDB"
    )]
    StorageEngine {
        /// The table's name.
        table: String,
        /// The table's storage engine.
        engine: String,
    },
    /// A pooler changes sessions between transactions or statements.
    #[error(
        "a pooler in transaction or statement mode is in front of the database (such as PgBouncer with pool_mode = transaction): settings and locks of a session do not hold there; use pool_mode = session, or connect to the server itself"
    )]
    Pooler,
}
