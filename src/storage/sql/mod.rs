//! What is stored, and the transactions on it. Compiled twice, on SeaORM and on its blocking twin: the parent module says
//! what `sea_orm` is, and defines `sql!`, which runs a statement in a span.

use super::sea_orm;

pub(in crate::storage) mod columns;
pub(in crate::storage) mod entities;
mod rows;
pub(in crate::storage) mod statements;
pub(in crate::storage) mod stored;
pub(in crate::storage) mod transaction;
mod writes;
