//! The table `token_keys`.

use sea_orm::entity::prelude::*;

#[derive(Clone, DeriveEntityModel)]
#[sea_orm(table_name = "token_keys")]
pub(in crate::storage) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(in crate::storage) name: String,
    pub(in crate::storage) secret: String,
}

impl std::fmt::Debug for Model {
    /// Without the secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Model").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(in crate::storage) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
