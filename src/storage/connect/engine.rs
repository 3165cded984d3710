//! The database engines.

use std::sync::atomic::{AtomicBool, Ordering};

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// SQLite, embedded.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MariaDB or MySQL.
    MySql,
}

/// Whether the MySQL-compatible server is MariaDB. Global: a process has one database.
static IS_MARIADB: AtomicBool = AtomicBool::new(false);

/// Whether the server is a node of a Galera cluster. Global: a process has one database.
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

    /// The name of the connection pool that calls wait for.
    pub(in crate::storage) fn pool(self) -> &'static str {
        match self {
            Self::Sqlite => "read",
            Self::Postgres | Self::MySql => "all",
        }
    }

    /// The value of `db.system.name`.
    pub(crate) fn semantic_name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
            Self::MySql if IS_MARIADB.load(Ordering::Relaxed) => "mariadb",
            Self::MySql => "mysql",
        }
    }
}

/// Whether `BEGIN` on a Galera node waits for all updates that other nodes have acknowledged. The
/// transaction may miss later updates.
pub(in crate::storage) fn begin_syncs() -> bool {
    IS_GALERA.load(Ordering::Relaxed)
}

/// Whether write statements check that their transaction is still open. After a conflict with another
/// node, a MariaDB node of a Galera cluster sometimes rolls a transaction back without an error. Later
/// statements of the transaction would then commit one by one. MySQL has no variable for this check.
pub(in crate::storage) fn checks_open_transaction() -> bool {
    IS_GALERA.load(Ordering::Relaxed) && IS_MARIADB.load(Ordering::Relaxed)
}

/// Records that the server is a Galera node.
pub(super) fn learn_galera() {
    IS_GALERA.store(true, Ordering::Relaxed);
}

/// Records the product of a MySQL-compatible server.
pub(super) fn learn_product(version: &str) {
    IS_MARIADB.store(version.contains("MariaDB"), Ordering::Relaxed);
}
