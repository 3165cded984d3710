//! The transactions on SeaORM: over pools of connections, on every engine.

use sea_orm;

macro_rules! sql {
    ($engine:expr, $operation:expr, $collection:expr, $call:expr) => {
        crate::storage::spans::statement($engine, $operation, $collection, $call).await
    };
}

#[expect(dead_code, reason = "what only the other twin uses")]
#[path = "sql/mod.rs"]
mod sql;
pub(super) use sql::*;
