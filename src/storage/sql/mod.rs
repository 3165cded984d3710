//! Tables, SQL statements and write transactions. Compiled twice, with SeaORM and with its blocking
//! twin. The parent module defines `sea_orm`, and `sql!`, which runs a statement in a span.

use super::sea_orm;

pub(in crate::storage) mod columns;
pub(in crate::storage) mod entities;
mod rows;
pub(in crate::storage) mod statements;
pub(in crate::storage) mod stored;
pub(in crate::storage) mod transaction;
mod writes;
