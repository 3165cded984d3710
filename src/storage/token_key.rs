//! The key that authenticates page and resume tokens: one row, shared by all replicas.

use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, sea_query::OnConflict};

use super::{failure::Corrupt, sql::entities::token_key};
use crate::domain::{
    error::Error,
    page_token::{KEY_LENGTH, TokenKey},
};

/// The name of the row.
const NAME: &str = "page_tokens";

/// Creates the key if it is missing. Of several concurrent replicas, one creates it.
pub(super) async fn create<C: ConnectionTrait>(connection: &C) -> Result<(), DbErr> {
    let mut secret = [0; KEY_LENGTH];
    let random = SystemRandom::new().fill(&mut secret);
    random.map_err(|_| DbErr::Custom("the system gives no random bytes".to_owned()))?;
    let row =
        token_key::ActiveModel { name: Set(NAME.to_owned()), secret: Set(hex::encode(secret)) };
    // A no-op update: the only insert-if-absent that all engines share.
    let keep = OnConflict::column(token_key::Column::Name)
        .update_column(token_key::Column::Name)
        .to_owned();
    token_key::Entity::insert(row).on_conflict(keep).exec_without_returning(connection).await?;
    Ok(())
}

pub(super) async fn load<C: ConnectionTrait>(connection: &C) -> Result<TokenKey, Error> {
    let row = token_key::Entity::find_by_id(NAME).one(connection).await?;
    let row = row.ok_or_else(|| Error::Unavailable("the database has no token key".into()))?;
    let mut secret = [0; KEY_LENGTH];
    hex::decode_to_slice(row.secret, &mut secret).map_err(|_| Corrupt("token_keys"))?;
    Ok(TokenKey::new(&secret))
}
