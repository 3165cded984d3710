//! The SQL statements of a transaction: what the rules need to know, for one call or many at once, and what they decide.

use std::collections::{BTreeSet, HashMap};

use super::{
    columns,
    entities::{account, change_log, currency, direction, manager_group_right, number_pool},
    sea_orm::{
        self,
        ActiveValue::Set,
        ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult, JoinType, QueryFilter,
        QuerySelect, RelationDef, Select,
        sea_query::{Condition, Expr, ExprTrait, LockBehavior, LockType},
    },
};
use crate::storage::{
    connect::Engine,
    failure::{Conflict, Corrupt},
};
use crate::{
    domain::{
        account::{AccountType, ActingAccount, Level, User},
        error::Error,
        facts::{Facts, Needs},
        update::{Entry, Updated},
    },
    fields::Reference,
};

/// How the rows of users are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum Lock {
    /// To be read.
    None,
    /// To be changed, but for those that another transaction has locked: as if they did not exist.
    Free,
    /// To be changed.
    Wait,
}

/// An open transaction.
pub(in crate::storage) struct Statements<'a> {
    pub(in crate::storage) engine: Engine,
    pub(in crate::storage) transaction: &'a DatabaseTransaction,
}

impl Statements<'_> {
    /// Loads what is needed.
    pub(in crate::storage) async fn load(&self, needs: &Needs, lock: Lock) -> Result<Facts, Error> {
        let mut facts = Facts {
            actors: self.actors(&needs.actors).await?,
            users: self.users(&needs.users, lock).await?,
            ..Facts::default()
        };
        for (reference, ids) in &needs.references {
            facts.references.insert(*reference, self.existing(*reference, ids).await?);
        }
        Ok(facts)
    }

    async fn actors(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<HashMap<String, ActingAccount>, Error> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
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
            .filter(account::Column::Username.is_in(names))
            .into_model::<ActingRow>();
        let rows = sql!(self.engine, "SELECT", "accounts", select.all(self.transaction))?;
        // By the name as stored: MariaDB ignores spaces at the end when it compares.
        rows.into_iter().map(|row| Ok((row.username.clone(), row.account()?))).collect()
    }

    async fn users(&self, ids: &BTreeSet<i64>, lock: Lock) -> Result<HashMap<i64, User>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut select =
            account::Entity::find().filter(account::Column::Id.is_in(ids.iter().copied()));
        // On PostgreSQL the weakest lock that keeps other writers out, so that references to the row may be made.
        let kind = match self.engine {
            Engine::Postgres => LockType::NoKeyUpdate,
            Engine::MySql | Engine::Sqlite => LockType::Update,
        };
        match (self.engine, lock) {
            // On SQLite a transaction that writes is the only one.
            (Engine::Sqlite, _) | (_, Lock::None) => {}
            (_, Lock::Free) => select = select.lock_with_behavior(kind, LockBehavior::SkipLocked),
            (_, Lock::Wait) => select = select.lock(kind),
        }
        let rows = sql!(self.engine, "SELECT", "accounts", select.all(self.transaction))?;
        rows.into_iter().map(|row| Ok((row.id, columns::user(row)?))).collect()
    }

    async fn existing(
        &self,
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

    /// Those of `ids` that a table has among the rows of `select`.
    async fn ids<E: EntityTrait>(
        &self,
        table: &'static str,
        id: E::Column,
        select: Select<E>,
        ids: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error> {
        let select = select.select_only().column(id).filter(id.is_in(ids.iter().copied()));
        let select = select.into_tuple::<i64>();
        let ids = sql!(self.engine, "SELECT", table, select.all(self.transaction))?;
        Ok(ids.into_iter().collect())
    }

    /// Stores changes, in their order, with their entries in the change log.
    pub(super) async fn write(&self, writes: &[(&Updated, &Entry)]) -> Result<(), Error> {
        for (Updated { user, changes }, _) in writes {
            let mut row = account::ActiveModel {
                version: Set(user.version),
                update_time: Set(user.update_time.timestamp_micros()),
                ..<account::ActiveModel as Default>::default()
            };
            for change in changes {
                columns::set(&mut row, change.field, &change.new)?;
            }
            let update = account::Entity::update_many()
                .set(row)
                .filter(account::Column::Id.eq(user.id))
                .filter(account::Column::Version.eq(user.version - 1));
            let updated = sql!(self.engine, "UPDATE", "accounts", update.exec(self.transaction))?;
            if updated.rows_affected != 1 {
                return Err(Error::Unavailable(Conflict.into()));
            }
        }
        let entries =
            writes.iter().map(|(Updated { user, changes }, entry)| change_log::ActiveModel {
                user_id: Set(user.id),
                version: Set(user.version),
                change_time: Set(user.update_time.timestamp_micros()),
                actor_id: Set(entry.actor_id),
                service: Set(entry.service.clone()),
                door: Set(entry.door.as_str().to_owned()),
                changes: Set(columns::changes_to_json(changes)),
                ..<change_log::ActiveModel as Default>::default()
            });
        let insert = change_log::Entity::insert_many(entries);
        sql!(self.engine, "INSERT", "change_log", insert.exec_without_returning(self.transaction))?;
        Ok(())
    }
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

impl ActingRow {
    fn account(self) -> Result<ActingAccount, Corrupt> {
        let level = self.level.map(|level| Level::from_word(&level).ok_or(Corrupt("level")));
        let account_type = AccountType::from_word(&self.account_type);
        Ok(ActingAccount {
            id: self.id,
            account_type: account_type.ok_or(Corrupt("account_type"))?,
            blocked: self.blocked,
            users_level: level.transpose()?,
            show_only_assigned_users: self.show_only_assigned_users,
        })
    }
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
