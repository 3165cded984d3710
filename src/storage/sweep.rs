//! Deletes what is kept no longer, in small portions: nobody waits long for them.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::ValueType,
};

use super::{
    asynchronous::entities::{change_log, request},
    repository::Database,
    spans::statement,
};
use crate::domain::error::Error;

/// How long the answer of a request is kept for its repeat.
const KEEP_ANSWERS: TimeDelta = TimeDelta::hours(24);

/// How many rows are deleted at once.
const PORTION: u64 = 500;

/// Deletes old answers, and old entries of the change log if they are not kept for ever. Several replicas may do so at once.
pub(super) async fn sweep(
    database: &Database,
    now: DateTime<Utc>,
    keep_log: Option<TimeDelta>,
) -> Result<(), Error> {
    let answers = now - KEEP_ANSWERS;
    let (id, time) = (request::Column::Id, request::Column::AnswerTime);
    older::<request::Entity, String>(database, "requests", id, time, answers).await?;
    if let Some(keep) = keep_log {
        let (id, time) = (change_log::Column::Id, change_log::Column::ChangeTime);
        older::<change_log::Entity, i64>(database, "change_log", id, time, now - keep).await?;
    }
    Ok(())
}

/// Deletes the rows of a table that are older than a time.
async fn older<E, Id>(
    database: &Database,
    table: &'static str,
    id: E::Column,
    time: E::Column,
    before: DateTime<Utc>,
) -> Result<(), Error>
where
    E: EntityTrait,
    Id: sea_orm::TryGetable + ValueType + Into<sea_orm::Value> + Send,
{
    let (engine, pools) = (database.engine(), database.pools());
    let old = time.lt(before.timestamp_micros());
    loop {
        let ids = E::find()
            .select_only()
            .column(id)
            .filter(old.clone())
            .order_by_asc(time)
            .limit(PORTION)
            .into_tuple::<(Id,)>();
        let ids = statement(engine, "SELECT", table, ids.all(&pools.read)).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let last = ids.len() < usize::try_from(PORTION).unwrap_or(usize::MAX);
        let ids = ids.into_iter().map(|(id,)| id.into());
        let delete = E::delete_many().filter(id.is_in(ids)).filter(old.clone());
        statement(engine, "DELETE", table, delete.exec(&pools.write)).await?;
        if last {
            return Ok(());
        }
    }
}
