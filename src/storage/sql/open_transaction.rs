//! Write statements that have effect only in an open transaction.

use sea_orm::{
    Statement,
    sea_query::{Condition, Expr},
};

use crate::storage::connect::checks_open_transaction;

/// On MariaDB.
const OPEN_TRANSACTION: &str = "@@in_transaction = 1";

/// Holds if the transaction is still open, where the service checks this.
pub(super) fn open_transaction() -> Condition {
    let checked = checks_open_transaction().then(|| Expr::cust(OPEN_TRANSACTION));
    Condition::all().add_option(checked)
}

/// Has an `INSERT` fail unless the transaction is still open, where the service checks this. The
/// first column takes no `NULL`.
pub(super) fn in_open_transaction(insert: Statement) -> Statement {
    if !checks_open_transaction() {
        return insert;
    }
    let first = format!("(IF({OPEN_TRANSACTION}, ?, NULL), ");
    Statement { sql: insert.sql.replace("(?, ", &first), ..insert }
}
