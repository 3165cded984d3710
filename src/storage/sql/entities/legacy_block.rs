//! The table `legacy_blocks`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "legacy_blocks")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) id: String,
    pub(in crate::storage) kind: String,
    pub(in crate::storage) value: String,
    pub(in crate::storage) is_automatic: bool,
    pub(in crate::storage) identity: String,
    pub(in crate::storage) create_time: i64,
    pub(in crate::storage) expire_time: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
