//! The table `change_log`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "change_log")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) user_id: i64,
    pub(crate) version: i64,
    pub(crate) change_time: i64,
    pub(crate) actor_id: Option<i64>,
    pub(crate) service: Option<String>,
    pub(crate) door: String,
    pub(crate) changes: Json,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
