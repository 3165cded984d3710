//! The stored data, through SeaORM, on SQLite, PostgreSQL and MariaDB/MySQL.

mod columns;
mod connect;
mod demo;
mod entities;
mod failure;
mod migrate;
mod repository;
mod settings;
mod spans;
mod statements;
mod writer;

pub use connect::{Engine, OpenError, Options};
pub use migrate::migrate;
pub use repository::SqlStore;
