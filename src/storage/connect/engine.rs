//! The kinds of databases.

use std::sync::atomic::{AtomicBool, Ordering};

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// SQLite, embedded.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MariaDB or MySQL.
    MySql,
}

/// Whether the server that looks like MySQL is MariaDB; for metrics and traces only. A process has
/// one database.
static IS_MARIADB: AtomicBool = AtomicBool::new(false);

impl Engine {
    /// The engine of a database URL, by its scheme.
    pub fn from_url(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" | "mariadb" => Some(Self::MySql),
            _ => None,
        }
    }

    /// The name of the pool of connections for which calls wait.
    pub(in crate::storage) fn pool(self) -> &'static str {
        match self {
            Self::Sqlite => "read",
            Self::Postgres | Self::MySql => "all",
        }
    }

    /// The value of `db.system.name`.
    pub(in crate::storage) fn semantic_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
            Self::MySql if IS_MARIADB.load(Ordering::Relaxed) => "mariadb",
            Self::MySql => "mysql",
        }
    }
}

/// The server that looks like MySQL said which version it has.
pub(super) fn learn_product(version: &str) {
    IS_MARIADB.store(version.contains("MariaDB"), Ordering::Relaxed);
}
