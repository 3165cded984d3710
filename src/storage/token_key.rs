//! The keys that authenticate page and resume tokens: a row for each epoch, shared by all replicas.

use ring::rand::{SecureRandom, SystemRandom};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, sea_query::OnConflict};

use super::{failure::Corrupt, sql::entities::token_key};
use crate::domain::{
    error::Error,
    page_token::{KEY_LENGTH, TokenKey},
};

/// The name of the row.
const NAME: &str = "page_tokens";

/// The beginning of the names of keys of earlier epochs. The number of the next epoch follows.
const EARLIER: &str = "page_tokens before epoch ";

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

/// Loads the key, with the keys of earlier epochs.
pub(super) async fn load<C: ConnectionTrait>(connection: &C) -> Result<TokenKey, Error> {
    let rows = token_key::Entity::find().all(connection).await?;
    let secret = |row: &token_key::Model| {
        let mut secret = [0; KEY_LENGTH];
        let decoded = hex::decode_to_slice(&row.secret, &mut secret);
        decoded.map(|()| secret).map_err(|_| Error::from(Corrupt("token_keys")))
    };
    let current = rows.iter().find(|row| row.name == NAME);
    let current =
        current.ok_or_else(|| Error::Unavailable("the database has no token key".into()))?;
    let earlier = rows.iter().filter(|row| row.name.starts_with(EARLIER));
    let earlier: Vec<_> = earlier.map(secret).collect::<Result<_, _>>()?;
    Ok(TokenKey::new(&secret(current)?).after(&earlier))
}

/// Replaces the key. `epoch` is the new epoch.
pub(super) async fn replace<C: ConnectionTrait>(connection: &C, epoch: i64) -> Result<(), Error> {
    let current = token_key::Entity::find_by_id(NAME).one(connection).await?;
    if let Some(current) = current {
        let name = format!("{EARLIER}{epoch}");
        let row = token_key::ActiveModel { name: Set(name), secret: Set(current.secret) };
        token_key::Entity::insert(row).exec_without_returning(connection).await?;
        token_key::Entity::delete_by_id(NAME).exec(connection).await?;
    }
    create(connection).await?;
    Ok(())
}
