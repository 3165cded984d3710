//! The answers of a database, and their absence.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};

use crate::{domain::error::chain, finding::Finding, storage::connect::OpenError};

/// The check whether the database can be used.
pub(super) const DATABASE: &str = "database";

/// A database that does not answer.
pub(super) fn not_open(error: &OpenError) -> Finding {
    let remedy = "check that the server runs, and database.url (M4_DATABASE_URL)";
    Finding::error(DATABASE, chain(error), remedy)
}

/// The first column of the first row of a statement.
pub(super) async fn first<T: sea_orm::TryGetable>(
    connection: &DatabaseConnection,
    sql: &str,
) -> Result<T, DbErr> {
    let select = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(select).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("no row".to_owned()))?;
    row.try_get_by_index(0)
}
