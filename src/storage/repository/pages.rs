//! Reads of many rows: pages of users and of the change log, and what those who watch read.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, FromQueryResult, Select};
use tokio::time::timeout;

use super::{Database, reading::Reading};
use crate::{
    domain::{
        account::User,
        error::Error,
        listing::{ChangeQuery, LoggedChange, UserQuery},
        update::Actor,
        watch::Position,
    },
    storage::{
        asynchronous::{
            columns,
            entities::{account, change_log},
        },
        listing,
        spans::statement,
    },
};

/// How long a read of the growing change log may take.
const LONGEST_READ: Duration = Duration::from_secs(8);

impl Database {
    /// The users of a page.
    pub(super) async fn list(&self, actor: &Actor, query: &UserQuery) -> Result<Vec<User>, Error> {
        let reading = self.reading().await?;
        let scope = reading.scope(actor, None).await?;
        let rows: Vec<account::Model> =
            reading.rows("accounts", &listing::users(self.engine(), query, scope)).await?;
        reading.end().await;
        Ok(rows.into_iter().map(columns::user).collect::<Result<_, _>>()?)
    }

    /// The entries of a page of the change log.
    pub(super) async fn list_changes(
        &self,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Vec<LoggedChange>, Error> {
        let reading = self.reading().await?;
        let rows = changes(&reading, actor, query).await?;
        reading.end().await;
        Ok(rows.into_iter().map(listing::logged).collect::<Result<_, _>>()?)
    }

    /// The ids of the newest entries of the change log, the newest first.
    pub(in crate::storage) async fn newest_changes(&self, limit: u64) -> Result<Vec<i64>, Error> {
        self.ids("change_log", listing::newest(limit)).await
    }

    /// The id of the oldest entry of the change log.
    pub(in crate::storage) async fn oldest_change(&self) -> Result<Option<i64>, Error> {
        Ok(self.ids("change_log", listing::oldest()).await?.pop())
    }

    /// Those of some users whose responsible manager this is.
    pub(in crate::storage) async fn assigned(
        &self,
        manager: i64,
        users: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error> {
        let assigned = self.ids("accounts", listing::assigned(manager, users)).await?;
        Ok(assigned.into_iter().collect())
    }

    /// The entries behind a position, of one user or of all, in the order of their ids, as they are visible at one moment.
    pub(in crate::storage) async fn changes_behind(
        &self,
        position: &Position,
        user_id: Option<i64>,
        limit: u64,
    ) -> Result<Vec<Arc<LoggedChange>>, Error> {
        let page = if position.missing().len() <= listing::GAPS {
            listing::behind(position, user_id, limit)
        } else {
            let behind = listing::ids_behind(position.floor(), user_id);
            let ids = self.ids("change_log", behind).await?;
            let unseen = ids.into_iter().filter(|id| !position.contains(*id));
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            listing::of_ids(unseen.take(most))
        };
        let _connection = self.reading.pass().await;
        let rows = statement(self.engine(), "SELECT", "change_log", page.all(&self.pools.read));
        let rows = timeout(LONGEST_READ, rows).await.map_err(|_| Error::DeadlineExceeded)?;
        let entries = rows?.into_iter().map(|row| Ok(Arc::new(listing::logged(row)?)));
        entries.collect()
    }

    async fn ids<E: EntityTrait>(
        &self,
        table: &'static str,
        select: Select<E>,
    ) -> Result<Vec<i64>, Error> {
        let _connection = self.reading.pass().await;
        let ids = select.into_tuple().all(&self.pools.read);
        let ids = timeout(LONGEST_READ, statement(self.engine(), "SELECT", table, ids)).await;
        Ok(ids.map_err(|_| Error::DeadlineExceeded)??)
    }
}

/// The entries of a page of the change log, as they are stored.
async fn changes(
    reading: &Reading<'_>,
    actor: &Actor,
    query: &ChangeQuery,
) -> Result<Vec<change_log::Model>, Error> {
    let scope = reading.scope(actor, None).await?;
    let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
    let (since, until) = (micros(query.filter.since), micros(query.filter.until));
    let mut span = 1..=i64::MAX;
    if since.is_some() {
        let Some(first) = boundary(reading, since, None).await? else { return Ok(Vec::new()) };
        span = first..=*span.end();
    }
    if until.is_some() {
        let Some(last) = boundary(reading, None, until).await? else { return Ok(Vec::new()) };
        span = *span.start()..=last;
    }
    let engine = reading.engine();
    reading.rows("change_log", &listing::changes(engine, query, scope, span)).await
}

async fn boundary(
    reading: &Reading<'_>,
    since: Option<i64>,
    until: Option<i64>,
) -> Result<Option<i64>, Error> {
    let rows: Vec<Id> = reading.rows("change_log", &listing::boundary(since, until)).await?;
    Ok(rows.into_iter().map(|row| row.id).next())
}

/// The id of an entry.
#[derive(FromQueryResult)]
struct Id {
    id: i64,
}
