//! The table `legacy_clients`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "legacy_clients")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) id: String,
    pub(in crate::storage) key_name: String,
    pub(in crate::storage) network: String,
    pub(in crate::storage) username: String,
    pub(in crate::storage) first_time: i64,
    pub(in crate::storage) last_time: i64,
    pub(in crate::storage) calls: i64,
    pub(in crate::storage) refused: i64,
    pub(in crate::storage) gets: i64,
    pub(in crate::storage) failed_hashes: i64,
    pub(in crate::storage) recipe: String,
    pub(in crate::storage) fields: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
