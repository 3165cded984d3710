//! The table `requests`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "requests")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) id: String,
    pub(in crate::storage) content: String,
    pub(in crate::storage) answer_time: i64,
    pub(in crate::storage) answer: Json,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
