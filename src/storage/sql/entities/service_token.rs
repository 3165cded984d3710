//! The table `service_tokens`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "service_tokens")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) id: String,
    pub(in crate::storage) name: String,
    pub(in crate::storage) token_hash: String,
    pub(in crate::storage) scopes: String,
    pub(in crate::storage) fields: Option<String>,
    pub(in crate::storage) create_time: i64,
    pub(in crate::storage) expire_time: Option<i64>,
    pub(in crate::storage) revoke_time: Option<i64>,
    pub(in crate::storage) last_used_time: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
