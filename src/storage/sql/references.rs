//! The SQL statements that check ids of other tables.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait, Select};

use super::{
    entities::{account, currency, direction, number_pool},
    executor::Executor,
    rows::Id,
    statements::{Statements, padded},
};
use crate::{
    domain::{account::AccountType, error::Error},
    fields::Reference,
    storage::texts::backend,
};

impl<C: Executor> Statements<'_, C> {
    /// The subset of `ids` that a reference may name.
    pub(super) async fn existing(
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

    /// The subset of `ids` among the rows of `select`.
    async fn ids<E: EntityTrait>(
        &self,
        table: &'static str,
        id: E::Column,
        select: Select<E>,
        ids: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error> {
        let select = select.select_only().column(id).filter(id.is_in(padded(ids).copied()));
        let ids = self.connection.rows(select.build(backend(self.engine)));
        let ids = self.run("SELECT", table, ids).await?;
        Ok(ids.into_iter().map(|Id { id }| id).collect())
    }
}
