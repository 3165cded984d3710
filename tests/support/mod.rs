//! What the integration tests share: a database of its own for each test, and the real application on real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests"
)]
#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses some of it")]

pub mod app;
pub mod database;
pub mod tls;

/// Runs each of the named `async fn(TestDatabase)` on SQLite: for what does not depend on the storage.
macro_rules! on_sqlite {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                $crate::support::database::run($crate::support::database::Kind::Sqlite, super::$name);
            })*
        }
    };
}
pub(crate) use on_sqlite;

/// Runs each of the named `async fn(TestDatabase)` on every engine, in a database of its own.
macro_rules! on_every_engine {
    ($($name:ident),* $(,)?) => {
        $crate::support::on_sqlite!($($name),*);
        $crate::support::on_servers!($($name),*);
    };
}
pub(crate) use on_every_engine;

/// Runs each of the named `async fn(TestDatabase)` on every server: for what SQLite does not have.
macro_rules! on_servers {
    ($($name:ident),* $(,)?) => {
        mod postgres {
            $(#[test]
            fn $name() {
                $crate::support::database::run($crate::support::database::Kind::Postgres, super::$name);
            })*
        }
        mod mariadb {
            $(#[test]
            fn $name() {
                $crate::support::database::run($crate::support::database::Kind::MariaDb, super::$name);
            })*
        }
    };
}
pub(crate) use on_servers;
