//! The table of client keys.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect, Select,
    sea_query::{Condition, Expr},
};

use super::{
    database::Database,
    failure::Corrupt,
    query_telemetry::own_statement,
    sql::{
        columns,
        entities::legacy_key,
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
        hash::Recipe,
        legacy_key::{Bindings, LegacyKey, MAX_ACTIVE_KEYS},
        legacy_key_store::LegacyKeyStore,
        master_key::Sealed,
    },
    networks::Networks,
    trace::Span,
};

const TABLE: &str = "legacy_keys";

#[async_trait]
impl LegacyKeyStore for SqlStore {
    async fn active_legacy_keys(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
    ) -> Result<Vec<LegacyKey>, Error> {
        let expires = legacy_key::Column::ExpireTime;
        let lives = Condition::any().add(expires.is_null()).add(expires.gt(now.timestamp_micros()));
        let select = legacy_key::Entity::find()
            .filter(legacy_key::Column::RevokeTime.is_null())
            .filter(lives)
            .order_by_asc(legacy_key::Column::CreateTime)
            .limit(u64::try_from(MAX_ACTIVE_KEYS).unwrap_or(u64::MAX));
        keys(self.prepared()?, &call.span, select).await
    }

    async fn legacy_keys(
        &self,
        call: &CallContext,
        after: Option<(i64, String)>,
        limit: u64,
    ) -> Result<Vec<LegacyKey>, Error> {
        let _room = self.admit()?;
        let (time, id) = (legacy_key::Column::CreateTime, legacy_key::Column::Id);
        let behind = |(after, key): (i64, String)| {
            let same = Condition::all().add(time.eq(after)).add(id.gt(key));
            Condition::any().add(time.gt(after)).add(same)
        };
        let select = legacy_key::Entity::find()
            .filter(Condition::all().add_option(after.map(behind)))
            .order_by_asc(time)
            .order_by_asc(id)
            .limit(limit);
        keys(self.prepared()?, &call.span, select).await
    }

    async fn create_legacy_key(
        &self,
        call: &CallContext,
        by: &Administrator,
        key: LegacyKey,
    ) -> Result<(), Error> {
        let _room = self.admit()?;
        let change = AdminChange {
            object: Object::LegacyKey,
            name: key.id.clone(),
            old: None,
            new: Some(key.to_string()),
        };
        let create_time = key.create_time;
        let administration = self.prepared()?.administration(&call.span).await?;
        let inserted = administration.insert(row(key), TABLE).await;
        administration.end((by, create_time), inserted.map(|()| ((), vec![change]))).await
    }

    async fn revoke_legacy_keys(
        &self,
        call: &CallContext,
        by: &Administrator,
        id_or_name: &str,
        now: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let _room = self.admit()?;
        let administration = self.prepared()?.administration(&call.span).await?;
        let columns =
            [legacy_key::Column::Id, legacy_key::Column::Name, legacy_key::Column::RevokeTime];
        let revoked = administration
            .revoke::<legacy_key::Entity>(Object::LegacyKey, (TABLE, columns), id_or_name, now)
            .await;
        administration.end((by, now), revoked).await
    }

    async fn reseal_legacy_keys(
        &self,
        call: &CallContext,
        (by, now): (&Administrator, DateTime<Utc>),
        secrets: Vec<(String, Sealed)>,
    ) -> Result<(), Error> {
        let _room = self.admit()?;
        let database = self.prepared()?;
        let administration = database.administration(&call.span).await?;
        let reseal = async {
            let mut changes = Vec::new();
            for (id, Sealed(sealed)) in secrets {
                let update = legacy_key::Entity::update_many()
                    .col_expr(legacy_key::Column::SealedSecret, Expr::val(sealed))
                    .filter(legacy_key::Column::Id.eq(&id))
                    .exec(&administration.transaction);
                own_statement(database.engine(), &call.span, "UPDATE", TABLE, update).await?;
                let new = Some("sealed again".to_owned());
                changes.push(AdminChange { object: Object::LegacyKey, name: id, old: None, new });
            }
            Ok(((), changes))
        };
        let resealed = reseal.await;
        administration.end((by, now), resealed).await
    }
}

/// Reads the keys of a statement. Leaves out unreadable rows.
async fn keys(
    database: &Database,
    span: &Span,
    select: Select<legacy_key::Entity>,
) -> Result<Vec<LegacyKey>, Error> {
    let rows: Vec<Stored<LegacyKey>> = database.own_rows(span, TABLE, select).await?;
    Ok(rows.into_iter().filter_map(Stored::read_or_leave_out).collect())
}

fn row(key: LegacyKey) -> legacy_key::ActiveModel {
    let Bindings { username, networks, fields, recipes } = key.bindings;
    let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
    legacy_key::ActiveModel {
        id: Set(key.id),
        name: Set(key.name),
        sealed_secret: Set(key.secret.0),
        username: Set(username),
        networks: Set((!networks.is_empty()).then(|| networks.to_string())),
        fields: Set(fields),
        recipes: Set(recipes.map(|recipes| Recipe::joined(&recipes))),
        create_time: Set(key.create_time.timestamp_micros()),
        expire_time: Set(micros(key.expire_time)),
        revoke_time: Set(micros(key.revoke_time)),
    }
}

impl FromRow for LegacyKey {
    const TABLE: &'static str = TABLE;
    type Row = legacy_key::Model;
    type Place = ();

    /// An unknown recipe or field allows nothing. A key with an unknown network is left out.
    fn from_row(row: legacy_key::Model) -> Result<Self, Corrupt> {
        let time = |micros, column| columns::time(micros).ok_or(Corrupt(column));
        let some_time =
            |micros: Option<i64>, column| micros.map(|micros| time(micros, column)).transpose();
        let networks = row.networks.as_deref().map_or(Ok(Networks::default()), str::parse);
        let recipes = row.recipes.map(|names| {
            let recipes: Vec<_> = names.split('+').map(Recipe::from_word).collect();
            unknown::count(TABLE, recipes.iter().filter(|recipe| recipe.is_none()).count());
            recipes.into_iter().flatten().collect()
        });
        Ok(Self {
            id: row.id,
            name: row.name,
            secret: Sealed(row.sealed_secret),
            bindings: Bindings {
                username: row.username,
                networks: networks.map_err(|_| Corrupt("networks"))?,
                fields: row.fields,
                recipes,
            },
            create_time: time(row.create_time, "create_time")?,
            expire_time: some_time(row.expire_time, "expire_time")?,
            revoke_time: some_time(row.revoke_time, "revoke_time")?,
        })
    }

    fn place(&self) {}

    fn place_of_row(row: &QueryResult) -> Result<((), String), DbErr> {
        Ok(((), row.try_get("", "id")?))
    }
}
