//! The table of service tokens.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect, Select,
    UpdateMany, UpdateResult,
    sea_query::{Condition, Expr},
};

use super::{
    database::Database,
    failure::Corrupt,
    query_telemetry::own_statement,
    sql::{
        columns,
        entities::service_token,
        stored::{FromRow, Stored},
    },
    store::SqlStore,
    unknown,
};
use crate::{
    domain::{
        administration::{AdminChange, Administrator, Object},
        call_context::CallContext,
        error::Error,
        scope::Scope,
        token::{MOST_ACTIVE, ServiceToken, TokenStore},
        token_cache::USED_WITHIN,
    },
    trace::Span,
};

const TABLE: &str = "service_tokens";

#[async_trait]
impl TokenStore for SqlStore {
    async fn active_tokens(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
    ) -> Result<Vec<ServiceToken>, Error> {
        let database = self.prepared()?;
        let expires = service_token::Column::ExpireTime;
        let lives = Condition::any().add(expires.is_null()).add(expires.gt(now.timestamp_micros()));
        let select = service_token::Entity::find()
            .filter(service_token::Column::RevokeTime.is_null())
            .filter(lives)
            .order_by_asc(service_token::Column::CreateTime)
            .limit(u64::try_from(MOST_ACTIVE).unwrap_or(u64::MAX));
        tokens(database, &call.span, select).await
    }

    async fn tokens(&self) -> Result<Vec<ServiceToken>, Error> {
        let database = self.prepared()?;
        let select = service_token::Entity::find()
            .order_by_asc(service_token::Column::CreateTime)
            .order_by_asc(service_token::Column::Id);
        tokens(database, &Span::default(), select).await
    }

    async fn has_tokens(&self, call: &CallContext) -> Result<bool, Error> {
        let database = self.prepared()?;
        let id = service_token::Entity::find().select_only().column(service_token::Column::Id);
        let (_room, lease) = database.own_work().await?;
        let id = id.limit(1).into_tuple::<String>().one(&*lease);
        let id = own_statement(database.engine(), &call.span, "SELECT", TABLE, id).await;
        let id = lease.note(id)?;
        lease.done();
        Ok(id.is_some())
    }

    async fn create_token(&self, by: &Administrator, token: ServiceToken) -> Result<(), Error> {
        let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
        let change = AdminChange {
            object: Object::ServiceToken,
            name: token.id.clone(),
            old: None,
            new: Some(token.to_string()),
        };
        let (id, create_time) = (token.id, token.create_time);
        let row = service_token::ActiveModel {
            id: Set(id),
            name: Set(token.name),
            token_hash: Set(hex::encode(token.hash)),
            scopes: Set(token.scopes.to_string()),
            fields: Set(token.fields),
            create_time: Set(create_time.timestamp_micros()),
            expire_time: Set(micros(token.expire_time)),
            revoke_time: Set(micros(token.revoke_time)),
            last_used_time: Set(micros(token.last_used_time)),
        };
        let span = Span::default();
        let administration = self.prepared()?.administration(&span).await?;
        let inserted = administration.insert(row, TABLE).await;
        let inserted = inserted.map(|()| ((), vec![change]));
        administration.end((by, create_time), inserted).await
    }

    async fn revoke_tokens(
        &self,
        by: &Administrator,
        id_or_name: &str,
        now: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let span = Span::default();
        let administration = self.prepared()?.administration(&span).await?;
        let columns = [
            service_token::Column::Id,
            service_token::Column::Name,
            service_token::Column::RevokeTime,
        ];
        let revoked = administration
            .revoke::<service_token::Entity>(
                Object::ServiceToken,
                (TABLE, columns),
                id_or_name,
                now,
            )
            .await;
        administration.end((by, now), revoked).await
    }

    async fn token_used(&self, id: &str, now: DateTime<Utc>) -> Result<(), Error> {
        // Shutdown waits for this permit.
        let _room = self.admit()?;
        let used = service_token::Column::LastUsedTime;
        let earlier = used.lte((now - USED_WITHIN).timestamp_micros());
        let update = service_token::Entity::update_many()
            .col_expr(used, Expr::val(now.timestamp_micros()))
            .filter(service_token::Column::Id.eq(id))
            .filter(Condition::any().add(used.is_null()).add(earlier));
        self.update(update).await.map(drop)
    }
}

impl SqlStore {
    async fn update(
        &self,
        update: UpdateMany<service_token::Entity>,
    ) -> Result<UpdateResult, Error> {
        let database = self.prepared()?;
        let (_room, lease) = database.own_writing().await?;
        let update = update.exec(&*lease);
        let done =
            own_statement(database.engine(), &Span::default(), "UPDATE", TABLE, update).await;
        let done = lease.note(done)?;
        lease.done();
        Ok(done)
    }
}

/// Reads the tokens of a statement. Leaves out unreadable rows.
async fn tokens(
    database: &Database,
    span: &Span,
    select: Select<service_token::Entity>,
) -> Result<Vec<ServiceToken>, Error> {
    let rows: Vec<Stored<ServiceToken>> = database.own_rows(span, TABLE, select).await?;
    Ok(rows.into_iter().filter_map(Stored::read_or_leave_out).collect())
}

impl FromRow for ServiceToken {
    const TABLE: &'static str = TABLE;
    type Row = service_token::Model;
    type Place = ();

    /// An unknown scope or field allows nothing.
    fn from_row(row: service_token::Model) -> Result<Self, Corrupt> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&row.token_hash, &mut hash).map_err(|_| Corrupt("token_hash"))?;
        let time = |micros, column| columns::time(micros).ok_or(Corrupt(column));
        let some_time =
            |micros: Option<i64>, column| micros.map(|micros| time(micros, column)).transpose();
        let scopes = row.scopes.split(' ').filter(|scope| !scope.is_empty());
        let scopes: Vec<_> = scopes.map(Scope::from_word).collect();
        let unknown = scopes.iter().filter(|scope| scope.is_none()).count();
        unknown::count(TABLE, unknown);
        Ok(Self {
            id: row.id,
            name: row.name,
            hash,
            scopes: scopes.into_iter().flatten().collect(),
            fields: row.fields,
            create_time: time(row.create_time, "create_time")?,
            expire_time: some_time(row.expire_time, "expire_time")?,
            revoke_time: some_time(row.revoke_time, "revoke_time")?,
            last_used_time: some_time(row.last_used_time, "last_used_time")?,
        })
    }

    fn place(&self) {}

    fn place_of_row(row: &QueryResult) -> Result<((), String), DbErr> {
        Ok(((), row.try_get("", "id")?))
    }
}
