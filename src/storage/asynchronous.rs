//! Transactions on async SeaORM, over connection pools, on every engine.

pub(super) use sea_orm::DatabaseTransaction as Transaction;
use sea_orm::{
    self, DatabaseConnection, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

macro_rules! sql {
    ($engine:expr, $operation:expr, $collection:expr, $call:expr) => {
        crate::storage::query_telemetry::statement($engine, $operation, $collection, $call).await
    };
}

/// A statement without database access: it has no span.
macro_rules! sql_without_span {
    ($call:expr) => {
        $call.await
    };
}

#[path = "sql/mod.rs"]
mod sql;
pub(super) use sql::*;

/// Begins a transaction. On SQLite, it takes the write lock at once: a later upgrade may fail.
async fn begin(connection: &DatabaseConnection) -> Result<Transaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    connection.begin_with_options(options).await
}
