//! The table of clients of legacy calls.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Condition, Expr, ExprTrait},
};

use super::{
    database::again,
    query_telemetry::own_statement,
    sql::{columns, entities::legacy_client},
    store::SqlStore,
};
use crate::{
    domain::{
        administration::Administrator,
        call_context::CallContext,
        error::Error,
        legacy_clients::{
            ClientId, ClientQuery, FailedHashes, LegacyClient, LegacyClientStore, Tally,
        },
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
        let administration = database.administration(&span).await?;
        let add = async {
            let mut from_new_networks = Vec::new();
            let transaction = &administration.transaction;
            let ids: Vec<_> = clients.iter().map(|(id, _)| id.digest()).collect();
            let known = legacy_client::Entity::find()
                .filter(legacy_client::Column::Id.is_in(ids.clone()))
                .order_by_asc(legacy_client::Column::Id)
                .lock_exclusive();
            let known = known.all(transaction);
            let known = own_statement(database.engine(), &span, "SELECT", TABLE, known).await?;
            let mut known: BTreeMap<_, _> =
                known.into_iter().map(|row| (row.id.clone(), row)).collect();
            for (digest, (id, tally)) in ids.into_iter().zip(clients) {
                let before = known.remove(&digest);
                if before.is_none() && is_from_new_network(transaction, id).await? {
                    from_new_networks.push(id.clone());
                }
                let is_new = before.is_none();
                let row = merged(before, digest, id, tally);
                let row = row.into_active_model().reset_all();
                let write = async {
                    if is_new {
                        legacy_client::Entity::insert(row)
                            .exec_without_returning(transaction)
                            .await
                            .map(drop)
                    } else {
                        row.update(transaction).await.map(drop)
                    }
                };
                own_statement(database.engine(), &span, "INSERT", TABLE, write).await?;
            }
            for FailedHashes { network, username, count } in failed {
                let column = legacy_client::Column::FailedHashes;
                let update = legacy_client::Entity::update_many()
                    .col_expr(column, Expr::col(column).add(signed(*count)))
                    .filter(legacy_client::Column::Network.eq(network))
                    .filter(legacy_client::Column::Username.eq(username))
                    .exec(transaction);
                own_statement(database.engine(), &span, "UPDATE", TABLE, update).await?;
            }
            Ok((from_new_networks, Vec::new()))
        };
        let added = add.await;
        administration.end((&Administrator::default(), Default::default()), added).await
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
        let read = || async {
            let (_room, lease) = database.own_work().await?;
            let rows = select.clone().all(&*lease);
            let rows = own_statement(database.engine(), &call.span, "SELECT", TABLE, rows).await;
            let rows = lease.note(rows)?;
            lease.done();
            Ok(rows)
        };
        let rows: Vec<legacy_client::Model> = again(read).await?;
        Ok(rows.into_iter().map(client).collect())
    }
}

/// Whether the key of a new client was used from other networks before, but never from this one.
async fn is_from_new_network(
    transaction: &DatabaseTransaction,
    id: &ClientId,
) -> Result<bool, Error> {
    let of_key = legacy_client::Entity::find().filter(legacy_client::Column::KeyName.eq(&id.key));
    let network = legacy_client::Column::Network;
    let same = of_key.clone().filter(network.eq(&id.network)).count(transaction).await?;
    let other = of_key.filter(network.ne(&id.network)).count(transaction).await?;
    Ok(same == 0 && other > 0)
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
