//! The table of clients of legacy calls.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult,
    IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Condition, Expr, ExprTrait},
};

use super::{
    database::Database,
    query_telemetry::own_statement,
    sql::{columns, entities::legacy_client},
    store::SqlStore,
};
use crate::{
    domain::{
        administration::Administrator,
        call_context::CallContext,
        error::Error,
        known_clients::MAX_KNOWN,
        legacy_client::{ClientId, FailedHashes, Tally},
        legacy_client_store::{ClientQuery, LegacyClient, LegacyClientStore},
    },
    trace::Span,
};

const TABLE: &str = "legacy_clients";

#[async_trait]
impl LegacyClientStore for SqlStore {
    async fn add_legacy_clients(
        &self,
        clients: &[(ClientId, Tally)],
        failed: &[FailedHashes],
    ) -> Result<Vec<ClientId>, Error> {
        // Shutdown waits for this permit.
        let _room = self.admit()?;
        let (database, span) = (self.prepared()?, Span::default());
        let administration = database.background(&span).await?;
        let transaction = &administration.transaction;
        let add = async {
            let mut rows = locked(transaction, database, &span, clients, failed).await?;
            let mut known = KnownOfNew::read(transaction, database, &span, clients, &rows).await?;
            let mut from_new_networks = Vec::new();
            for (id, tally) in clients {
                let digest = id.digest();
                let before = rows.remove(&digest);
                let is_new = before.is_none();
                if is_new && known.is_new_network(id) {
                    from_new_networks.push(id.clone());
                }
                let row = with_failed(merged(before, digest, id, tally), failed);
                write(transaction, database, &span, row, is_new).await?;
            }
            for (_, row) in rows {
                write(transaction, database, &span, with_failed(row, failed), false).await?;
            }
            Ok((from_new_networks, Vec::new()))
        };
        let added = add.await;
        administration.end((&Administrator::default(), Default::default()), added).await
    }

    async fn known_clients(
        &self,
        since: Option<DateTime<Utc>>,
    ) -> Result<Vec<(String, String)>, Error> {
        let database = self.prepared()?;
        let (calls, refused) = (legacy_client::Column::Calls, legacy_client::Column::Refused);
        let since =
            since.map(|since| legacy_client::Column::LastTime.gte(since.timestamp_micros()));
        let select = legacy_client::Entity::find()
            .select_only()
            .column(legacy_client::Column::KeyName)
            .column(legacy_client::Column::Network)
            .distinct()
            .filter(Condition::all().add(Expr::col(calls).gt(Expr::col(refused))).add_option(since))
            .limit(u64::try_from(MAX_KNOWN).unwrap_or(u64::MAX));
        let rows: Vec<Known> = database.own_rows(&Span::default(), TABLE, select).await?;
        Ok(rows.into_iter().map(|known| (known.key_name, known.network)).collect())
    }

    async fn legacy_clients(
        &self,
        call: &CallContext,
        query: &ClientQuery,
    ) -> Result<Vec<LegacyClient>, Error> {
        let _room = self.admit()?;
        let database = self.prepared()?;
        let (last, id) = (legacy_client::Column::LastTime, legacy_client::Column::Id);
        let behind = |(time, digest): &(i64, String)| {
            Condition::any()
                .add(last.lt(*time))
                .add(Condition::all().add(last.eq(*time)).add(id.gt(digest)))
        };
        let select = legacy_client::Entity::find()
            .filter(
                Condition::all()
                    .add_option(query.since.map(|since| last.gte(since.timestamp_micros())))
                    .add_option(query.after.as_ref().map(behind)),
            )
            .order_by_desc(last)
            .order_by_asc(id)
            .limit(query.limit);
        let rows: Vec<legacy_client::Model> = database.own_rows(&call.span, TABLE, select).await?;
        Ok(rows.into_iter().map(client).collect())
    }
}

/// A key that was used from a network.
#[derive(FromQueryResult)]
struct Known {
    key_name: String,
    network: String,
}

/// Locks and reads the rows to change, in the same order in every replica, so that their transactions do
/// not wait for each other in a circle.
async fn locked(
    transaction: &DatabaseTransaction,
    database: &Database,
    span: &Span,
    clients: &[(ClientId, Tally)],
    failed: &[FailedHashes],
) -> Result<BTreeMap<String, legacy_client::Model>, Error> {
    let mut ids: BTreeSet<String> = clients.iter().map(|(id, _)| id.digest()).collect();
    if !failed.is_empty() {
        let (network, username) = (legacy_client::Column::Network, legacy_client::Column::Username);
        let pairs = failed.iter().fold(Condition::any(), |pairs, failed| {
            pairs.add(network.eq(&*failed.network).and(username.eq(&*failed.username)))
        });
        let counted = legacy_client::Entity::find().filter(pairs).all(transaction);
        let counted = own_statement(database.engine(), span, "SELECT", TABLE, counted).await?;
        ids.extend(counted.into_iter().map(|row| row.id));
    }
    let rows = legacy_client::Entity::find()
        .filter(legacy_client::Column::Id.is_in(ids))
        .order_by_asc(legacy_client::Column::Id)
        .lock_exclusive()
        .all(transaction);
    let rows = own_statement(database.engine(), span, "SELECT", TABLE, rows).await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

/// What the table knows of clients without a row.
#[derive(Default)]
struct KnownOfNew {
    /// The keys of these clients that have other rows.
    keys: BTreeSet<String>,
    /// The keys and networks of these clients that have other rows.
    pairs: BTreeSet<(String, String)>,
}

impl KnownOfNew {
    async fn read(
        transaction: &DatabaseTransaction,
        database: &Database,
        span: &Span,
        clients: &[(ClientId, Tally)],
        rows: &BTreeMap<String, legacy_client::Model>,
    ) -> Result<Self, Error> {
        let new = clients.iter().filter(|(id, _)| !rows.contains_key(&id.digest()));
        let (keys, networks): (BTreeSet<_>, BTreeSet<_>) =
            new.map(|(id, _)| (&*id.key, &*id.network)).unzip();
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let of_keys = legacy_client::Entity::find()
            .select_only()
            .column(legacy_client::Column::KeyName)
            .distinct()
            .filter(legacy_client::Column::KeyName.is_in(keys));
        let of_networks = of_keys
            .clone()
            .column(legacy_client::Column::Network)
            .filter(legacy_client::Column::Network.is_in(networks));
        let keys = of_keys.into_tuple::<String>().all(transaction);
        let keys = own_statement(database.engine(), span, "SELECT", TABLE, keys).await?;
        let pairs = of_networks.into_tuple::<(String, String)>().all(transaction);
        let pairs = own_statement(database.engine(), span, "SELECT", TABLE, pairs).await?;
        Ok(Self { keys: keys.into_iter().collect(), pairs: pairs.into_iter().collect() })
    }

    /// Whether the key of a new client has not been used from its network before. True once.
    fn is_new_network(&mut self, id: &ClientId) -> bool {
        self.keys.contains(&id.key) && self.pairs.insert((id.key.clone(), id.network.clone()))
    }
}

async fn write(
    transaction: &DatabaseTransaction,
    database: &Database,
    span: &Span,
    row: legacy_client::Model,
    is_new: bool,
) -> Result<(), Error> {
    let row = row.into_active_model().reset_all();
    let engine = database.engine();
    if is_new {
        let insert = legacy_client::Entity::insert(row).exec_without_returning(transaction);
        own_statement(engine, span, "INSERT", TABLE, insert).await?;
    } else {
        own_statement(engine, span, "UPDATE", TABLE, row.update(transaction)).await?;
    }
    Ok(())
}

/// The number of wrong hashes from the network of a client with its username.
fn failed_of(row: &legacy_client::Model, failed: &[FailedHashes]) -> u64 {
    let own = failed
        .iter()
        .filter(|failed| failed.network == row.network && failed.username == row.username);
    own.map(|failed| failed.count).sum()
}

fn with_failed(mut row: legacy_client::Model, failed: &[FailedHashes]) -> legacy_client::Model {
    row.failed_hashes = row.failed_hashes.saturating_add(signed(failed_of(&row, failed)));
    row
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn merged(
    before: Option<legacy_client::Model>,
    digest: String,
    id: &ClientId,
    tally: &Tally,
) -> legacy_client::Model {
    let mut row = before.unwrap_or_else(|| legacy_client::Model {
        id: digest,
        key_name: id.key.clone(),
        network: id.network.clone(),
        username: id.username.clone(),
        first_time: tally.first.timestamp_micros(),
        last_time: tally.last.timestamp_micros(),
        calls: 0,
        refused: 0,
        gets: 0,
        failed_hashes: 0,
        recipe: String::new(),
        fields: String::new(),
    });
    row.first_time = Ord::min(row.first_time, tally.first.timestamp_micros());
    row.last_time = Ord::max(row.last_time, tally.last.timestamp_micros());
    row.calls = row.calls.saturating_add(signed(tally.calls));
    row.refused = row.refused.saturating_add(signed(tally.refused));
    row.gets = row.gets.saturating_add(signed(tally.gets));
    row.recipe = tally.recipe.as_str().to_owned();
    let mut fields: BTreeSet<&str> = words(&row.fields).collect();
    for field in tally.fields.iter() {
        fields.insert(field.path());
    }
    row.fields = fields.into_iter().collect::<Vec<_>>().join(" ");
    row
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

fn client(row: legacy_client::Model) -> LegacyClient {
    let count = |count: i64| u64::try_from(count).unwrap_or_default();
    let time = |micros| columns::time(micros).unwrap_or_default();
    LegacyClient {
        first: time(row.first_time),
        last: time(row.last_time),
        calls: count(row.calls),
        refused: count(row.refused),
        gets: count(row.gets),
        failed_hashes: count(row.failed_hashes),
        fields: words(&row.fields).map(str::to_owned).collect(),
        id: ClientId { key: row.key_name, network: row.network, username: row.username },
        recipe: row.recipe,
    }
}
