//! Reads all rows of a table from one snapshot, in the order of their ids and in bounded memory.

use std::{io, pin::pin};

use futures_util::TryStreamExt;
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait, QueryOrder, QueryResult, Select};

use super::{
    connect::{OpenError, Options},
    consistent_read::ConsistentRead,
    failure::Corrupt,
    sql::{
        entities::{account, change_log},
        stored::{FromRow, Stored},
    },
};
use crate::domain::{account::User, listing::LoggedChange};

/// Why an export ends early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The output cannot be written.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

impl From<DbErr> for ExportError {
    fn from(failure: DbErr) -> Self {
        Self::Open(failure.into())
    }
}

/// An account with the columns that only managers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedAccount {
    /// The account, of any type.
    pub user: User,
    /// The group of a manager.
    pub manager_group_id: Option<i64>,
    /// Whether a manager may access only users that are assigned to the manager.
    pub show_only_assigned_users: bool,
}

impl FromRow for ExportedAccount {
    const TABLE: &'static str = User::TABLE;
    type Row = account::Model;
    type Place = i64;

    fn from_row(row: account::Model) -> Result<Self, Corrupt> {
        let manager_group_id = row.manager_group_id;
        let show_only_assigned_users = row.show_only_assigned_users;
        let user = User::from_row(row)?;
        Ok(Self { user, manager_group_id, show_only_assigned_users })
    }

    fn place(&self) -> i64 {
        self.user.id
    }

    fn place_of_row(row: &QueryResult) -> Result<(i64, String), DbErr> {
        let id: i64 = row.try_get("", "id")?;
        Ok((id, id.to_string()))
    }
}

/// A row of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported<T> {
    /// A readable row.
    Row(T),
    /// The id of a row that this version cannot read.
    Unreadable(i64),
}

/// Passes each account to `write`.
///
/// # Errors
/// [`ExportError`]: the database does not answer, its schema is not up to date, or `write` fails.
pub async fn export_accounts(
    options: &Options,
    write: impl FnMut(Exported<ExportedAccount>) -> io::Result<()> + Send,
) -> Result<(), ExportError> {
    export::<account::Entity, _>(options, account::Column::Id, write).await
}

/// Passes each entry of the change log to `write`.
///
/// # Errors
/// [`ExportError`]: the database does not answer, its schema is not up to date, or `write` fails.
pub async fn export_change_log(
    options: &Options,
    write: impl FnMut(Exported<LoggedChange>) -> io::Result<()> + Send,
) -> Result<(), ExportError> {
    export::<change_log::Entity, _>(options, change_log::Column::Id, write).await
}

async fn export<E: EntityTrait, T: FromRow<Place = i64> + Send>(
    options: &Options,
    id: E::Column,
    write: impl FnMut(Exported<T>) -> io::Result<()> + Send,
) -> Result<(), ExportError> {
    let read = ConsistentRead::begin(options).await?;
    let written = stream(read.transaction(), E::find().order_by_asc(id), write).await;
    read.end().await;
    written
}

async fn stream<E: EntityTrait, T: FromRow<Place = i64> + Send>(
    transaction: &DatabaseTransaction,
    rows: Select<E>,
    mut write: impl FnMut(Exported<T>) -> io::Result<()> + Send,
) -> Result<(), ExportError> {
    let rows = rows.into_model::<Stored<T>>().stream(transaction).await?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await? {
        write(match row {
            Stored::Read(row) => Exported::Row(row),
            Stored::Unreadable(id, _) => Exported::Unreadable(id),
        })?;
    }
    Ok(())
}
