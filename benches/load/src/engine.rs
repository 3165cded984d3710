//! The database engines to measure.

use std::env;

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Embedded.
    Sqlite,
    /// With the URL of a server.
    Postgres(String),
    /// With the URL of a server.
    MariaDb(String),
}

impl Engine {
    /// The wanted engines that are available. An empty `wanted` means all.
    pub(crate) fn available(wanted: &[String]) -> Vec<Self> {
        let server = |variable: &str| {
            env::var(variable).map_err(|_| eprintln!("{variable} is not set: left out")).ok()
        };
        let mut engines = Vec::new();
        for name in ["sqlite", "postgres", "mariadb"] {
            if !wanted.is_empty() && !wanted.iter().any(|own| own == name) {
                continue;
            }
            engines.extend(match name {
                "postgres" => server("TEST_POSTGRES_URL").map(Self::Postgres),
                "mariadb" => server("TEST_MYSQL_URL").map(Self::MariaDb),
                _ => Some(Self::Sqlite),
            });
        }
        engines
    }

    /// The display name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
            Self::MariaDb(_) => "MariaDB",
        }
    }

    /// The server's URL; `None` for SQLite.
    pub(crate) fn server(&self) -> Option<&str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(server) | Self::MariaDb(server) => Some(server),
        }
    }
}
