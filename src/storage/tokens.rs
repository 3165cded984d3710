//! The table of service tokens.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Condition, Expr},
};

use super::{
    asynchronous::{columns, entities::service_token},
    failure::Corrupt,
    repository::SqlStore,
    spans::statement,
};
use crate::domain::{
    error::Error,
    holders::USED_WITHIN,
    identity::Permission,
    token::{MOST_ACTIVE, ServiceToken, TokenStore},
};

const TABLE: &str = "service_tokens";

#[async_trait]
impl TokenStore for SqlStore {
    async fn active_tokens(&self, now: DateTime<Utc>) -> Result<Vec<ServiceToken>, Error> {
        let database = self.prepared()?;
        let expires = service_token::Column::ExpireTime;
        let lives = Condition::any().add(expires.is_null()).add(expires.gt(now.timestamp_micros()));
        let select = service_token::Entity::find()
            .filter(service_token::Column::RevokeTime.is_null())
            .filter(lives)
            .order_by_asc(service_token::Column::CreateTime)
            .limit(u64::try_from(MOST_ACTIVE).unwrap_or(u64::MAX));
        let rows = select.all(&database.pools().read);
        let rows = statement(database.engine(), "SELECT", TABLE, rows).await?;
        Ok(rows.into_iter().map(token).collect::<Result<_, _>>()?)
    }

    async fn tokens(&self) -> Result<Vec<ServiceToken>, Error> {
        let database = self.prepared()?;
        let select = service_token::Entity::find()
            .order_by_asc(service_token::Column::CreateTime)
            .order_by_asc(service_token::Column::Id);
        let rows = select.all(&database.pools().read);
        let rows = statement(database.engine(), "SELECT", TABLE, rows).await?;
        Ok(rows.into_iter().map(token).collect::<Result<_, _>>()?)
    }

    async fn has_tokens(&self) -> Result<bool, Error> {
        let database = self.prepared()?;
        let id = service_token::Entity::find().select_only().column(service_token::Column::Id);
        let id = id.limit(1).into_tuple::<String>().one(&database.pools().read);
        Ok(statement(database.engine(), "SELECT", TABLE, id).await?.is_some())
    }

    async fn create_token(&self, token: ServiceToken) -> Result<(), Error> {
        let database = self.prepared()?;
        let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
        let row = service_token::ActiveModel {
            id: Set(token.id),
            name: Set(token.name),
            token_hash: Set(hex::encode(token.hash)),
            scopes: Set(token.permissions.to_string()),
            fields: Set(token.fields),
            create_time: Set(token.create_time.timestamp_micros()),
            expire_time: Set(micros(token.expire_time)),
            revoke_time: Set(micros(token.revoke_time)),
            last_used_time: Set(micros(token.last_used_time)),
        };
        let insert = service_token::Entity::insert(row);
        let insert = insert.exec_without_returning(&database.pools().write);
        statement(database.engine(), "INSERT", TABLE, insert).await?;
        Ok(())
    }

    async fn revoke_tokens(&self, id_or_name: &str, now: DateTime<Utc>) -> Result<u64, Error> {
        let database = self.prepared()?;
        // The name of one may be the id of another.
        for column in [service_token::Column::Id, service_token::Column::Name] {
            let revoked = Expr::val(now.timestamp_micros());
            let update = service_token::Entity::update_many()
                .col_expr(service_token::Column::RevokeTime, revoked)
                .filter(column.eq(id_or_name))
                .filter(service_token::Column::RevokeTime.is_null());
            let update = update.exec(&database.pools().write);
            let done = statement(database.engine(), "UPDATE", TABLE, update).await?;
            if done.rows_affected > 0 {
                return Ok(done.rows_affected);
            }
        }
        Ok(0)
    }

    async fn token_used(&self, id: &str, now: DateTime<Utc>) -> Result<(), Error> {
        // What is under way when the service stops is finished.
        let _room = self.take_room()?;
        let database = self.prepared()?;
        let used = service_token::Column::LastUsedTime;
        let earlier = used.lte((now - USED_WITHIN).timestamp_micros());
        let update = service_token::Entity::update_many()
            .col_expr(used, Expr::val(now.timestamp_micros()))
            .filter(service_token::Column::Id.eq(id))
            .filter(Condition::any().add(used.is_null()).add(earlier));
        let update = update.exec(&database.pools().write);
        statement(database.engine(), "UPDATE", TABLE, update).await?;
        Ok(())
    }
}

/// A row as a token. What a later version may have written into it and this one does not know allows nothing.
fn token(row: service_token::Model) -> Result<ServiceToken, Corrupt> {
    let mut hash = [0; 32];
    hex::decode_to_slice(&row.token_hash, &mut hash).map_err(|_| Corrupt("token_hash"))?;
    let time = |micros, column| columns::time(micros).ok_or(Corrupt(column));
    Ok(ServiceToken {
        id: row.id,
        name: row.name,
        hash,
        permissions: row.scopes.split(' ').filter_map(Permission::from_word).collect(),
        fields: row.fields,
        create_time: time(row.create_time, "create_time")?,
        expire_time: row.expire_time.map(|micros| time(micros, "expire_time")).transpose()?,
        revoke_time: row.revoke_time.map(|micros| time(micros, "revoke_time")).transpose()?,
        last_used_time: row
            .last_used_time
            .map(|micros| time(micros, "last_used_time"))
            .transpose()?,
    })
}
