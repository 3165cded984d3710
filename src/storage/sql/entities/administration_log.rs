//! The table `administration_log`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "administration_log")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key)]
    pub(in crate::storage) id: i64,
    pub(in crate::storage) change_time: i64,
    pub(in crate::storage) identity: String,
    pub(in crate::storage) acting_username: String,
    pub(in crate::storage) address: String,
    pub(in crate::storage) object: String,
    pub(in crate::storage) name: String,
    pub(in crate::storage) old_value: Option<String>,
    pub(in crate::storage) new_value: Option<String>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
