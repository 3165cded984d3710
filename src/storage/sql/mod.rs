//! Tables, SQL statements and write transactions.

pub(in crate::storage) mod columns;
pub(in crate::storage) mod entities;
pub(in crate::storage) mod executor;
mod listed;
mod open_transaction;
mod references;
mod rows;
pub(in crate::storage) mod sqlite_row;
pub(in crate::storage) mod statements;
pub(in crate::storage) mod stored;
pub(in crate::storage) mod transaction;
mod writes;
