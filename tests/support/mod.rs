//! Shared by integration tests: a database per test, and the real application on real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]
#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses some of it")]

pub mod app;
pub mod clock;
pub mod database;
pub mod process;
pub mod raw;
pub mod server;
pub mod tls;

use std::time::{Duration, Instant};

/// Timeout of a condition: far longer than a busy machine needs.
pub const CONDITION_TIMEOUT: Duration = Duration::from_secs(60);

/// Polls every 10 ms until a condition holds.
pub async fn until<F: Future<Output = bool>>(condition: &str, holds: impl Fn() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < CONDITION_TIMEOUT, "timeout: {condition}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A module with the named tests on one engine, each in its own database. Without a server of that
/// engine, the tests are skipped.
macro_rules! on_engine {
    ($module:ident, $kind:ident, $($name:ident),*) => {
        mod $module {
            $(#[test]
            fn $name() {
                $crate::support::database::run($crate::support::database::Kind::$kind, super::$name);
            })*
        }
    };
}
pub(crate) use on_engine;

/// Runs each of the named `async fn(TestDatabase)` on SQLite: for tests that do not depend on the
/// engine, and for features of SQLite only.
macro_rules! on_sqlite {
    ($($name:ident),* $(,)?) => {
        mod only_sqlite {
            use super::{$($name),*};
            $crate::support::on_engine!(sqlite, Sqlite, $($name),*);
        }
    };
}
pub(crate) use on_sqlite;

/// Runs each of the named `async fn(TestDatabase)` on every engine.
macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        $crate::support::on_engine!(sqlite, Sqlite, $($name),*);
        $crate::support::on_engine!(postgres, Postgres, $($name),*);
        $crate::support::on_engine!(mariadb, MariaDb, $($name),*);
    };
}
pub(crate) use on_every_engine;

/// Runs each of the named `async fn(TestDatabase)` on every server: for features that SQLite lacks.
macro_rules! on_servers {
    ($($name:ident),* $(,)?) => {
        mod only_servers {
            use super::{$($name),*};
            $crate::support::on_engine!(postgres, Postgres, $($name),*);
            $crate::support::on_engine!(mariadb, MariaDb, $($name),*);
        }
    };
}
pub(crate) use on_servers;

/// Runs each of the named `async fn(TestDatabase)` on PostgreSQL only.
macro_rules! on_postgres {
    ($($name:ident),* $(,)?) => {
        mod only_postgres {
            use super::{$($name),*};
            $crate::support::on_engine!(postgres, Postgres, $($name),*);
        }
    };
}
pub(crate) use on_postgres;
