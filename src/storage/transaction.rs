//! What the rules ask of one database transaction.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult, JoinType, QueryFilter,
    QuerySelect, RelationDef, Select,
    sea_query::{Condition, Expr, ExprTrait, LockType},
};

use super::{
    columns::{self, Corrupt},
    connect::Engine,
    entities::{account, change_log, currency, direction, manager_group_right, number_pool},
    failure::Conflict,
    spans::statement,
};
use crate::{
    domain::{
        account::{AccountType, ActingAccount, Level, User, Username},
        error::Error,
        store::{LogEntry, Purpose, Transaction},
    },
    fields::Reference,
};

/// An open transaction.
pub(super) struct SqlTransaction<'a> {
    pub(super) engine: Engine,
    pub(super) transaction: &'a DatabaseTransaction,
}

/// The columns of an acting account.
#[derive(FromQueryResult)]
struct ActingRow {
    id: i64,
    username: String,
    account_type: String,
    blocked: bool,
    show_only_assigned_users: bool,
    level: Option<String>,
}

/// From an account to its group's right `users`.
fn users_right() -> RelationDef {
    let right: RelationDef = account::Entity::belongs_to(manager_group_right::Entity)
        .from(account::Column::ManagerGroupId)
        .to(manager_group_right::Column::ManagerGroupId)
        .into();
    right.on_condition(|_, right| {
        Condition::all().add(Expr::col((right, manager_group_right::Column::Name)).eq("users"))
    })
}

#[async_trait]
impl Transaction for SqlTransaction<'_> {
    async fn acting_account(&mut self, name: &Username) -> Result<Option<ActingAccount>, Error> {
        let select = account::Entity::find()
            .select_only()
            .columns([
                account::Column::Id,
                account::Column::Username,
                account::Column::AccountType,
                account::Column::Blocked,
                account::Column::ShowOnlyAssignedUsers,
            ])
            .column(manager_group_right::Column::Level)
            .join(JoinType::LeftJoin, users_right())
            .filter(account::Column::Username.eq(name.as_str()))
            .into_model::<ActingRow>()
            .one(self.transaction);
        // MariaDB ignores spaces at the end when it compares.
        let row = statement(self.engine, "SELECT", "accounts", select)
            .await?
            .filter(|row| row.username == name.as_str());
        let Some(row) = row else { return Ok(None) };
        let users_level = match row.level {
            Some(level) => Some(Level::from_word(&level).ok_or(Corrupt("level"))?),
            None => None,
        };
        Ok(Some(ActingAccount {
            id: row.id,
            account_type: AccountType::from_word(&row.account_type)
                .ok_or(Corrupt("account_type"))?,
            blocked: row.blocked,
            users_level,
            show_only_assigned_users: row.show_only_assigned_users,
        }))
    }

    async fn user(&mut self, id: i64, purpose: Purpose) -> Result<Option<User>, Error> {
        let mut select = account::Entity::find_by_id(id);
        if purpose == Purpose::Change {
            // On PostgreSQL the weakest lock that keeps other writers out, so that references to the row may be made.
            select = match self.engine {
                Engine::Postgres => select.lock(LockType::NoKeyUpdate),
                Engine::MySql => select.lock_exclusive(),
                // A transaction that writes is the only one.
                Engine::Sqlite => select,
            };
        }
        let row =
            statement(self.engine, "SELECT", "accounts", select.one(self.transaction)).await?;
        Ok(row.map(columns::user).transpose()?)
    }

    async fn existing(
        &mut self,
        reference: Reference,
        ids: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error> {
        match reference {
            Reference::Currency => {
                self.ids("currencies", currency::Column::Id, currency::Entity::find(), ids).await
            }
            Reference::Direction => {
                self.ids("directions", direction::Column::Id, direction::Entity::find(), ids).await
            }
            Reference::NumberPool => {
                let pools = number_pool::Entity::find();
                self.ids("number_pools", number_pool::Column::Id, pools, ids).await
            }
            Reference::Manager => {
                let is_manager = account::Column::AccountType.eq(AccountType::Manager.as_str());
                let managers = account::Entity::find().filter(is_manager);
                self.ids("accounts", account::Column::Id, managers, ids).await
            }
        }
    }

    async fn write(&mut self, user: &User, entry: LogEntry<'_>) -> Result<(), Error> {
        let change_time = user.update_time.timestamp_micros();
        let mut row = account::ActiveModel {
            version: Set(user.version),
            update_time: Set(change_time),
            ..<account::ActiveModel as Default>::default()
        };
        for change in entry.changes {
            columns::set(&mut row, change.field, &change.new)?;
        }
        let update = account::Entity::update_many()
            .set(row)
            .filter(account::Column::Id.eq(user.id))
            .filter(account::Column::Version.eq(user.version - 1))
            .exec(self.transaction);
        let updated = statement(self.engine, "UPDATE", "accounts", update).await?;
        if updated.rows_affected != 1 {
            return Err(Error::Unavailable(Conflict.into()));
        }
        let log = change_log::ActiveModel {
            user_id: Set(user.id),
            version: Set(user.version),
            change_time: Set(change_time),
            actor_id: Set(entry.actor_id),
            service: Set(entry.service.map(str::to_owned)),
            door: Set(entry.door.as_str().to_owned()),
            changes: Set(columns::changes_to_json(entry.changes)),
            ..<change_log::ActiveModel as Default>::default()
        };
        let insert = change_log::Entity::insert(log).exec_without_returning(self.transaction);
        statement(self.engine, "INSERT", "change_log", insert).await?;
        Ok(())
    }
}

impl SqlTransaction<'_> {
    /// Those of `ids` that a table has among the rows of `select`.
    async fn ids<E: EntityTrait>(
        &self,
        table: &'static str,
        id: E::Column,
        select: Select<E>,
        ids: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error> {
        let select = select.select_only().column(id).filter(id.is_in(ids.iter().copied()));
        let ids = select.into_tuple::<i64>().all(self.transaction);
        Ok(statement(self.engine, "SELECT", table, ids).await?.into_iter().collect())
    }
}
