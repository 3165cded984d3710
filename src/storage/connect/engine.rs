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

/// Whether the server is a node of a Galera cluster. A process has one database.
static IS_GALERA: AtomicBool = AtomicBool::new(false);

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

/// Whether `BEGIN` waits until a node of a Galera cluster has what other nodes acknowledged. What is
/// acknowledged later, the transaction may not see.
pub(in crate::storage) fn begin_syncs() -> bool {
    IS_GALERA.load(Ordering::Relaxed)
}

/// A session said that its server is a node of a Galera cluster.
pub(super) fn learn_galera() {
    IS_GALERA.store(true, Ordering::Relaxed);
}

/// The server that looks like MySQL said which version it has.
pub(super) fn learn_product(version: &str) {
    IS_MARIADB.store(version.contains("MariaDB"), Ordering::Relaxed);
}
