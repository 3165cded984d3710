//! The stored data, through SeaORM, on SQLite, PostgreSQL and MariaDB/MySQL.

#![expect(
    clippy::duplicate_mod,
    reason = "sql/ is compiled twice, on SeaORM and on its blocking twin"
)]

mod asynchronous;
mod blocking;
mod checkpoint;
mod connect;
mod demo;
mod failure;
mod feed;
mod gate;
mod listing;
mod measured;
mod migrate;
mod repository;
mod settings;
mod spans;
mod sweep;
mod texts;
mod tokens;
mod writer;

pub use connect::{Engine, OpenError, Options};
pub use migrate::migrate;
pub use repository::SqlStore;
