//! Reads of many rows: pages of users and of the change log, and what those who watch read.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait, Select, TransactionTrait};
use tokio::time::timeout;

use super::Database;
use crate::{
    domain::{
        account::User,
        deadline,
        error::Error,
        listing::{ChangeQuery, LoggedChange, UserQuery},
        update::Actor,
        watch::Position,
    },
    storage::{
        asynchronous::{
            columns,
            statements::{Statements, bounded},
            transaction,
        },
        connect::Engine,
        listing,
        spans::statement,
        writer::patience,
    },
};

/// How long a read of the growing change log may take.
const LONGEST_READ: Duration = Duration::from_secs(8);

impl Database {
    /// The users of a page.
    pub(super) async fn list(&self, actor: &Actor, query: &UserQuery) -> Result<Vec<User>, Error> {
        let scope = self.scope(actor, None).await?;
        let _connection = self.reading.acquire().await;
        let rows = self.page("accounts", listing::users(query, scope)).await?;
        Ok(rows.into_iter().map(columns::user).collect::<Result<_, _>>()?)
    }

    /// The entries of a page of the change log.
    pub(super) async fn list_changes(
        &self,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Vec<LoggedChange>, Error> {
        let scope = self.scope(actor, None).await?;
        let _connection = self.reading.acquire().await;
        let mut span = 1..=i64::MAX;
        let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
        if let Some(since) = micros(query.filter.since) {
            let Some(first) = self.boundary(Some(since), None).await? else {
                return Ok(Vec::new());
            };
            span = first..=*span.end();
        }
        if let Some(until) = micros(query.filter.until) {
            let Some(last) = self.boundary(None, Some(until)).await? else { return Ok(Vec::new()) };
            span = *span.start()..=last;
        }
        let rows = self.page("change_log", listing::changes(query, scope, span)).await?;
        Ok(rows.into_iter().map(listing::logged).collect::<Result<_, _>>()?)
    }

    /// The rows of a page. A server gives up with a caller that waits less long than is usual.
    async fn page<E: EntityTrait>(
        &self,
        table: &'static str,
        page: Select<E>,
    ) -> Result<Vec<E::Model>, Error> {
        let (engine, read) = (self.engine(), &self.pools.read);
        let rows = match (engine, patience([deadline::current()])) {
            (Engine::Postgres, Some(patience)) => {
                let begin = read.begin();
                let transaction = statement(engine, "BEGIN", "", begin).await?;
                Statements { engine, connection: &transaction }.bound(patience).await?;
                let rows = statement(engine, "SELECT", table, page.all(&transaction)).await;
                transaction::rollback(transaction, engine).await;
                rows
            }
            (Engine::MySql, Some(patience)) => {
                let page = E::find().from_raw_sql(bounded(&page, patience));
                statement(engine, "SELECT", table, page.all(read)).await
            }
            _ => statement(engine, "SELECT", table, page.all(read)).await,
        };
        Ok(rows?)
    }

    async fn boundary(&self, since: Option<i64>, until: Option<i64>) -> Result<Option<i64>, Error> {
        let boundary = listing::boundary(since, until).into_tuple().one(&self.pools.read);
        Ok(statement(self.engine(), "SELECT", "change_log", boundary).await?)
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
        let _connection = self.reading.acquire().await;
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
        let _connection = self.reading.acquire().await;
        let ids = select.into_tuple().all(&self.pools.read);
        let ids = timeout(LONGEST_READ, statement(self.engine(), "SELECT", table, ids)).await;
        Ok(ids.map_err(|_| Error::DeadlineExceeded)??)
    }
}
