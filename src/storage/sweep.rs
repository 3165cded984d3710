//! Deletes expired rows in small portions, so that no update waits long.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict, ValueType},
};

use super::{
    clock_difference::{MAX_CLOCK_DIFFERENCE, clock_difference},
    connect::Engine,
    database::{Database, again},
    query_telemetry::own_statement,
    sql::entities::{
        change_log,
        change_log_sweep::{self, Column::UpTo},
        legacy_block, legacy_client, request,
    },
};
use crate::{domain::error::Error, trace::Span};

/// How long an answer is kept for a retry of its request.
const KEEP_ANSWERS: TimeDelta = TimeDelta::hours(24);

/// How long a legacy client is kept after its last call: longer than a year, for yearly jobs.
const KEEP_CLIENTS: TimeDelta = TimeDelta::days(400);

/// Maximum number of rows per delete.
const MAX_SWEPT_ROWS: u64 = 500;

/// Deletes expired answers, blocks, legacy clients and change log entries. Without `keep_log`, the log is
/// kept forever. Several replicas may sweep at once.
///
/// # Errors
/// The database fails, or its server's clock differs: rows would look older than they are.
pub(super) async fn sweep(
    database: &Database,
    now: DateTime<Utc>,
    keep_log: Option<TimeDelta>,
) -> Result<(), Error> {
    compare_clocks(database).await?;
    let (id, time) = (request::Column::Id, request::Column::AnswerTime);
    delete_before::<request::Entity>(database, id, time, now - KEEP_ANSWERS).await?;
    let (id, time) = (legacy_block::Column::Id, legacy_block::Column::ExpireTime);
    delete_before::<legacy_block::Entity>(database, id, time, now).await?;
    let (id, time) = (legacy_client::Column::Id, legacy_client::Column::LastTime);
    delete_before::<legacy_client::Entity>(database, id, time, now - KEEP_CLIENTS).await?;
    if let Some(keep) = keep_log {
        let (id, time) = (change_log::Column::Id, change_log::Column::ChangeTime);
        // The newest entry stays: it marks the end of the log.
        let newest = database.newest_changes(&Span::default(), 1).await?.pop().unwrap_or_default();
        let old = time.lt((now - keep).timestamp_micros()).and(id.lt(newest));
        let mut deleted = Deleted::from("change_log");
        while let Some(ids) = older::<change_log::Entity, i64>(database, id, time, &old).await? {
            // Before the delete: a watch that resumes from an earlier position must fail.
            let up_to = ids.iter().copied().max().unwrap_or_default();
            database.note_sweep(up_to).await?;
            let rows = id.is_in(ids).and(old.clone());
            deleted.rows += delete::<change_log::Entity>(database, rows).await?;
        }
        if deleted.rows > 0 {
            database.forget_sweeps().await?;
        }
    }
    Ok(())
}

/// Deletes the rows of a table before a time.
async fn delete_before<E: EntityTrait>(
    database: &Database,
    id: E::Column,
    time: E::Column,
    before: DateTime<Utc>,
) -> Result<(), Error> {
    let old = time.lt(before.timestamp_micros());
    let mut deleted = Deleted::from(E::default().table_name());
    while let Some(ids) = older::<E, String>(database, id, time, &old).await? {
        deleted.rows += delete::<E>(database, id.is_in(ids).and(old.clone())).await?;
    }
    Ok(())
}

/// The rows that a sweep has deleted from a table. Logs them on drop: after a failure, too.
struct Deleted {
    table: &'static str,
    rows: u64,
}

impl Deleted {
    fn from(table: &'static str) -> Self {
        Self { table, rows: 0 }
    }
}

impl Drop for Deleted {
    fn drop(&mut self) {
        let Self { table, rows } = self;
        if *rows > 0 {
            tracing::info!(table, rows, "expired rows were deleted");
        }
    }
}

/// Compares the clocks of the machine and the database server. A SQLite database has no other clock.
async fn compare_clocks(database: &Database) -> Result<(), Error> {
    let engine = database.engine();
    if engine == Engine::Sqlite {
        return Ok(());
    }
    let (_room, lease) = database.own_work().await?;
    let difference = clock_difference(engine, &*lease);
    let difference = own_statement(engine, &Span::default(), "SELECT", "", difference).await;
    let difference = lease.note(difference)?;
    lease.done();
    if difference.abs() <= MAX_CLOCK_DIFFERENCE {
        return Ok(());
    }
    let seconds = difference.num_seconds();
    let cause = format!("the machine's clock differs from the database server's by {seconds} s");
    Err(Error::Unavailable(cause.into()))
}

/// The ids of a table's expired rows, oldest first, or `None`.
async fn older<E, Id>(
    database: &Database,
    id: E::Column,
    time: E::Column,
    old: &Expr,
) -> Result<Option<Vec<Id>>, Error>
where
    E: EntityTrait,
    Id: sea_orm::TryGetable + ValueType + Send,
{
    let ids = E::find()
        .select_only()
        .column(id)
        .filter(old.clone())
        .order_by_asc(time)
        .limit(MAX_SWEPT_ROWS)
        .into_tuple::<(Id,)>();
    let (_room, lease) = database.own_writing().await?;
    let table = E::default().table_name();
    let found =
        own_statement(database.engine(), &Span::default(), "SELECT", table, ids.all(&*lease)).await;
    let ids = lease.note(found)?;
    lease.done();
    Ok((!ids.is_empty()).then(|| ids.into_iter().map(|(id,)| id).collect()))
}

/// Deletes rows, and returns their number.
async fn delete<E: EntityTrait>(database: &Database, rows: Expr) -> Result<u64, Error> {
    let (_room, lease) = database.own_writing().await?;
    let delete = E::delete_many().filter(rows).exec(&*lease);
    let table = E::default().table_name();
    let deleted = own_statement(database.engine(), &Span::default(), "DELETE", table, delete).await;
    let deleted = lease.note(deleted)?;
    lease.done();
    Ok(deleted.rows_affected)
}

impl Database {
    /// The id up to which entries of the change log were deleted.
    pub(super) async fn swept_up_to(&self, span: &Span) -> Result<i64, Error> {
        let select = change_log_sweep::Entity::find().order_by_desc(UpTo).limit(1);
        let read = || async {
            let (_room, lease) = self.own_work().await?;
            let row = select.clone().one(&*lease);
            let row = own_statement(self.engine(), span, "SELECT", "change_log_sweeps", row).await;
            let row = lease.note(row)?;
            lease.done();
            Ok(row.map_or(0, |row| row.up_to))
        };
        again(read).await
    }

    async fn note_sweep(&self, up_to: i64) -> Result<(), Error> {
        let row = change_log_sweep::ActiveModel { up_to: Set(up_to) };
        // A no-op update: the only insert-if-absent that all engines share.
        let keep = OnConflict::column(UpTo).update_column(UpTo).to_owned();
        let (_room, lease) = self.own_writing().await?;
        let insert = change_log_sweep::Entity::insert(row).on_conflict(keep);
        let insert = insert.exec_without_returning(&*lease);
        let inserted =
            own_statement(self.engine(), &Span::default(), "INSERT", "change_log_sweeps", insert)
                .await;
        lease.note(inserted)?;
        lease.done();
        Ok(())
    }

    /// Deletes the records of earlier sweeps.
    async fn forget_sweeps(&self) -> Result<(), Error> {
        let last = self.swept_up_to(&Span::default()).await?;
        delete::<change_log_sweep::Entity>(self, UpTo.lt(last)).await.map(drop)
    }
}
