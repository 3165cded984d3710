//! The table `legacy_keys`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "legacy_keys")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) id: String,
    pub(in crate::storage) name: String,
    pub(in crate::storage) sealed_secret: String,
    pub(in crate::storage) username: Option<String>,
    pub(in crate::storage) networks: Option<String>,
    pub(in crate::storage) fields: Option<String>,
    pub(in crate::storage) recipes: Option<String>,
    pub(in crate::storage) create_time: i64,
    pub(in crate::storage) expire_time: Option<i64>,
    pub(in crate::storage) revoke_time: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
