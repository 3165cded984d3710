//! The table `change_log_sweeps`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "change_log_sweeps")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) up_to: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
