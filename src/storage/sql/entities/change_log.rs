//! The table `change_log`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "change_log")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key)]
    pub(in crate::storage) id: i64,
    pub(in crate::storage) user_id: i64,
    pub(in crate::storage) version: i64,
    pub(in crate::storage) change_time: i64,
    pub(in crate::storage) actor_id: Option<i64>,
    pub(in crate::storage) service: Option<String>,
    pub(in crate::storage) door: String,
    pub(in crate::storage) address: String,
    pub(in crate::storage) reason: String,
    pub(in crate::storage) request_id: String,
    pub(in crate::storage) traceparent: String,
    pub(in crate::storage) identity: String,
    pub(in crate::storage) changes: Json,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
