//! The table `number_pools`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "number_pools")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key)]
    pub(in crate::storage) id: i64,
    pub(in crate::storage) name: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
