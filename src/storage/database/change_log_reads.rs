//! Reads of many rows: pages of users and of the change log, and reads for subscriptions.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, EntityTrait, FromQueryResult, QuerySelect, Select, Statement};
use tokio::time::timeout;

use super::{
    Database, again,
    read_session::{Bound, Reading, Rows, collect},
};
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        listing::{ChangeQuery, Cursor as Place, Listed, ListedUser, LoggedChange, UserQuery},
        update::Actor,
        watch::Position,
    },
    storage::{
        feed::Transactions,
        listing,
        query_telemetry::statement,
        sql::{entities::change_log, stored::Stored},
    },
    trace::Span,
};

/// Timeout for a read of the change feed.
const LONGEST_READ: Duration = Duration::from_secs(8);

impl Database {
    /// A page of users.
    pub(in crate::storage) async fn list(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &UserQuery,
    ) -> Result<Listed<ListedUser>, Error> {
        let list = || async {
            let reading = self.reading(call).await?;
            let visibility = reading.visibility(actor, None).await?;
            let select = |behind: Option<(Place, u64)>| match behind {
                None => listing::users(self.engine(), query, visibility),
                Some((after, limit)) => {
                    let query = UserQuery { after: Some(after), limit, ..query.clone() };
                    listing::users(self.engine(), &query, visibility)
                }
            };
            let bound = Bound { bytes: query.max_bytes, of: ListedUser::text_bytes };
            let users = reading.page(query.limit, select, bound).await?;
            reading.end().await;
            Ok(users)
        };
        again(list).await
    }

    /// A page of the change log.
    pub(in crate::storage) async fn list_changes(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Listed<LoggedChange>, Error> {
        let list = || async {
            let reading = self.reading(call).await?;
            let changes = changes(&reading, actor, query).await?;
            reading.end().await;
            Ok(changes)
        };
        again(list).await
    }

    /// The ids of the newest entries of the change log, the newest first.
    pub(in crate::storage) async fn newest_changes(
        &self,
        span: &Span,
        limit: u64,
    ) -> Result<Vec<i64>, Error> {
        self.ids(span, "change_log", listing::newest(limit)).await
    }

    /// The time of an entry of the change log.
    pub(in crate::storage) async fn time_of_change(
        &self,
        span: &Span,
        id: i64,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let micros = self.ids(span, "change_log", listing::time(id)).await?.pop();
        Ok(micros.and_then(DateTime::from_timestamp_micros))
    }

    /// The smallest id of an entry of a time or later, or a slightly smaller id.
    pub(in crate::storage) async fn first_change_since(
        &self,
        span: &Span,
        time: DateTime<Utc>,
    ) -> Result<Option<i64>, Error> {
        let boundary = listing::boundary(Some(time.timestamp_micros()), None);
        let Some(id) = self.ids(span, "change_log", boundary).await?.pop() else { return Ok(None) };
        let Some(first) = self.time_of_change(span, id).await? else { return Ok(Some(id)) };
        // Ids are taken after times: a smaller id may have a slightly later time.
        let near = listing::smallest_id(first.timestamp_micros());
        Ok(self.ids(span, "change_log", near).await?.pop().or(Some(id)))
    }

    /// The id of the oldest entry of the change log.
    pub(in crate::storage) async fn oldest_change(&self) -> Result<Option<i64>, Error> {
        Ok(self.ids(&Span::default(), "change_log", listing::oldest()).await?.pop())
    }

    /// The transaction snapshot of a PostgreSQL server.
    pub(in crate::storage) async fn transactions(&self) -> Result<Transactions, Error> {
        const SELECT: &str = "SELECT pg_snapshot_xmin(now)::text::bigint AS oldest, \
                              pg_snapshot_xmax(now)::text::bigint AS next, \
                              COALESCE((SELECT max(id) FROM change_log), 0) AS newest \
                              FROM pg_current_snapshot() AS now";
        let read = || async {
            let (_room, lease) = self.own_work().await?;
            let select = Statement::from_string(lease.get_database_backend(), SELECT);
            let span = Span::default();
            let row = statement(self.engine(), &span, "SELECT", "", lease.query_one_raw(select));
            let row = timeout(LONGEST_READ, row).await.map_err(|_| Error::DeadlineExceeded)?;
            let row = lease.note(row.map_err(Error::from))?;
            lease.done();
            let row = row.ok_or_else(|| Error::Internal("no snapshot".into()))?;
            let id = |column| row.try_get("", column);
            Ok(Transactions { oldest: id("oldest")?, next: id("next")?, newest: id("newest")? })
        };
        again(read).await
    }

    /// The subset of `users` with this responsible manager.
    pub(in crate::storage) async fn assigned(
        &self,
        manager: i64,
        users: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error> {
        let assigned =
            self.ids(&Span::default(), "accounts", listing::assigned(manager, users)).await?;
        Ok(assigned.into_iter().collect())
    }

    /// The entries after a position, of one user or of all users, in id order and from one
    /// snapshot. Reading stops at `max_bytes` of text. `newest` is the largest id read before: a
    /// server without this id is an old primary, whose log has gaps.
    pub(in crate::storage) async fn changes_behind(
        &self,
        position: &Position,
        user_id: Option<i64>,
        newest: i64,
        (limit, max_bytes): (u64, usize),
    ) -> Result<Rows<LoggedChange>, Error> {
        let page = if position.missing().len() <= listing::GAPS {
            listing::behind(position, user_id, limit)
        } else {
            listing::of_ids(self.ids_behind(&Span::default(), position, user_id, limit).await?)
        };
        let read = || async {
            let (_room, lease) = self.own_work().await?;
            let bound = Bound { bytes: max_bytes, of: LoggedChange::text_bytes };
            let page = async {
                if newest > 0 {
                    let own: Option<i64> = listing::newest(1).into_tuple().one(&*lease).await?;
                    if own.unwrap_or_default() < newest {
                        return Err(behind());
                    }
                }
                let rows = page.clone().into_model::<Stored<LoggedChange>>();
                collect(rows.stream(&*lease).await?, bound).await
            };
            let span = Span::default();
            let page = statement(self.engine(), &span, "SELECT", "change_log", page);
            let page = timeout(LONGEST_READ, page).await.map_err(|_| Error::DeadlineExceeded)?;
            let page = lease.note(page)?;
            lease.done();
            Ok(page)
        };
        again(read).await
    }

    /// The ids of the entries after a position, of one user or of all users, in order.
    pub(in crate::storage) async fn ids_behind(
        &self,
        span: &Span,
        position: &Position,
        user_id: Option<i64>,
        limit: u64,
    ) -> Result<Vec<i64>, Error> {
        if position.missing().len() <= listing::GAPS {
            let behind = listing::behind(position, user_id, limit);
            return self
                .ids(span, "change_log", behind.select_only().column(change_log::Column::Id))
                .await;
        }
        let ids = self
            .ids(span, "change_log", listing::ids_behind(position.contiguous_up_to(), user_id))
            .await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(ids.into_iter().filter(|id| !position.contains(*id)).take(limit).collect())
    }

    async fn ids<E: EntityTrait>(
        &self,
        span: &Span,
        table: &'static str,
        select: Select<E>,
    ) -> Result<Vec<i64>, Error> {
        let read = || async {
            let (_room, lease) = self.own_work().await?;
            let ids = select.clone().into_tuple().all(&*lease);
            let ids = statement(self.engine(), span, "SELECT", table, ids);
            let ids = timeout(LONGEST_READ, ids).await;
            let ids = ids.map_err(|_| Error::DeadlineExceeded)?;
            let ids = lease.note(ids.map_err(Error::from))?;
            lease.done();
            Ok(ids)
        };
        again(read).await
    }
}

fn behind() -> Error {
    Error::Unavailable("the server lacks entries that another server had".into())
}

async fn changes(
    reading: &Reading<'_>,
    actor: &Actor,
    query: &ChangeQuery,
) -> Result<Listed<LoggedChange>, Error> {
    let none = || Listed { items: Vec::new(), is_cut: false };
    let visibility = reading.visibility(actor, None).await?;
    let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros());
    let (since, until) = (micros(query.filter.since), micros(query.filter.until));
    let mut span = 1..=i64::MAX;
    if since.is_some() {
        let Some(first) = boundary(reading, since, None).await? else { return Ok(none()) };
        span = first..=*span.end();
    }
    if until.is_some() {
        let Some(last) = boundary(reading, None, until).await? else { return Ok(none()) };
        span = *span.start()..=last;
    }
    let engine = reading.engine();
    let select = |behind: Option<(i64, u64)>| match behind {
        None => listing::changes(engine, query, visibility, span.clone()),
        Some((after, limit)) => {
            let query = ChangeQuery { after: Some(after), limit, ..query.clone() };
            listing::changes(engine, &query, visibility, span.clone())
        }
    };
    let bound = Bound { bytes: query.max_bytes, of: LoggedChange::text_bytes };
    reading.page(query.limit, select, bound).await
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
