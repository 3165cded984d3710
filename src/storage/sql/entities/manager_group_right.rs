//! The table `manager_group_rights`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "manager_group_rights")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) manager_group_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) name: String,
    pub(in crate::storage) level: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
