//! The references between rows. A database checks them only while its foreign-key checks are
//! on.

use std::pin::pin;

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult, Statement};

use crate::{
    domain::{
        account::AccountType,
        replay::{Defect, DefectKind},
    },
    fields::{FIELDS, Kind, Reference},
};

/// Reports each reference to a row that does not exist.
pub(super) async fn verify(
    transaction: &DatabaseTransaction,
    report: &mut (dyn FnMut(Defect) + Send),
) -> Result<(), DbErr> {
    for field in FIELDS {
        let Kind::Id(reference) = field.kind() else { continue };
        let target = match reference {
            Reference::Currency => "currencies",
            Reference::Direction => "directions",
            Reference::Manager => "accounts",
            Reference::NumberPool => "number_pools",
        };
        let manager = AccountType::Manager.as_str();
        let condition = match reference {
            Reference::Manager => format!(" AND target.account_type = '{manager}'"),
            _ => String::new(),
        };
        let target = format!("{target} target ON target.id = own.{}{condition}", field.name());
        broken(transaction, "accounts", field.name(), &target, &mut |id| {
            report(Defect::of_account(DefectKind::BrokenReference, id, field.path()));
        })
        .await?;
    }
    let group = "manager_groups target ON target.id = own.manager_group_id";
    broken(transaction, "accounts", "manager_group_id", group, &mut |id| {
        report(Defect::of_account(DefectKind::BrokenReference, id, "manager_group_id"));
    })
    .await?;
    let actor = "accounts target ON target.id = own.actor_id";
    broken(transaction, "change_log", "actor_id", actor, &mut |id| {
        report(Defect::of_entry(DefectKind::BrokenReference, id, "actor_id"));
    })
    .await
}

/// Reports the ids of the rows whose column names no row of the joined table.
async fn broken(
    transaction: &DatabaseTransaction,
    table: &str,
    column: &str,
    join: &str,
    report: &mut (dyn FnMut(i64) + Send),
) -> Result<(), DbErr> {
    let select = format!(
        "SELECT own.id AS id FROM {table} own LEFT JOIN {join} \
         WHERE own.{column} IS NOT NULL AND target.id IS NULL ORDER BY own.id"
    );
    let select = Statement::from_string(transaction.get_database_backend(), select);
    let mut rows = pin!(Id::find_by_statement(select).stream(transaction).await?);
    while let Some(Id { id }) = rows.try_next().await? {
        report(id);
    }
    Ok(())
}

/// The id of a row.
#[derive(FromQueryResult)]
struct Id {
    id: i64,
}
