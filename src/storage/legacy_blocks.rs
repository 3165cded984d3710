//! The table of blocks of legacy calls.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, Select,
    sea_query::{Condition, OnConflict},
};

use super::{
    database::{Administration, Database},
    query_telemetry::own_statement,
    sql::{
        columns,
        entities::legacy_block::{self, Column},
    },
    store::SqlStore,
    unknown,
};
use crate::{
    domain::{
        administration::{AdminChange, Administrator, Object},
        call_context::CallContext,
        error::Error,
        legacy_block::{LegacyBlock, LegacyBlockStore, MAX_BLOCKS, Target},
    },
    trace::Span,
};

const TABLE: &str = "legacy_blocks";

#[async_trait]
impl LegacyBlockStore for SqlStore {
    async fn legacy_blocks(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
        after: Option<(i64, String)>,
        limit: u64,
    ) -> Result<Vec<LegacyBlock>, Error> {
        let behind = |(time, id): (i64, String)| {
            let same = Condition::all().add(Column::CreateTime.eq(time)).add(Column::Id.gt(id));
            Condition::any().add(Column::CreateTime.gt(time)).add(same)
        };
        let select = legacy_block::Entity::find()
            .filter(active(now).add_option(after.map(behind)))
            .order_by_asc(Column::CreateTime)
            .order_by_asc(Column::Id)
            .limit(limit);
        blocks(self.prepared()?, &call.span, select).await
    }

    async fn active_legacy_blocks(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
    ) -> Result<Vec<LegacyBlock>, Error> {
        let select = legacy_block::Entity::find()
            .filter(active(now))
            .order_by_asc(Column::IsAutomatic)
            .order_by_desc(Column::CreateTime)
            .limit(2 * MAX_BLOCKS);
        blocks(self.prepared()?, &call.span, select).await
    }

    async fn store_automatic_blocks(
        &self,
        mut blocks: Vec<LegacyBlock>,
        now: DateTime<Utc>,
    ) -> Result<Vec<LegacyBlock>, Error> {
        // Shutdown waits for this permit.
        let _room = self.admit()?;
        let (database, span) = (self.prepared()?, Span::default());
        let administration = database.background(&span).await?;
        let (transaction, engine) = (&administration.transaction, database.engine());
        let store = async {
            let count = count(transaction, true, now);
            let count = own_statement(engine, &span, "SELECT", TABLE, count).await?;
            blocks.truncate(usize::try_from(MAX_BLOCKS.saturating_sub(count)).unwrap_or_default());
            upsert(&administration, &blocks).await?;
            Ok((blocks, Vec::new()))
        };
        let stored = store.await;
        administration.end((&Administrator::default(), now), stored).await
    }

    async fn add_legacy_block(
        &self,
        call: &CallContext,
        by: &Administrator,
        block: LegacyBlock,
    ) -> Result<(), Error> {
        let _room = self.admit()?;
        let database = self.prepared()?;
        let administration = database.administration(&call.span).await?;
        let (transaction, engine) = (&administration.transaction, database.engine());
        let now = block.create_time;
        let add = async {
            let before = legacy_block::Entity::find_by_id(block.id()).one(transaction);
            let before = own_statement(engine, &call.span, "SELECT", TABLE, before).await?;
            let count = count(transaction, false, now);
            let count = own_statement(engine, &call.span, "SELECT", TABLE, count).await?;
            if before.is_none() && count >= MAX_BLOCKS {
                let problem = format!("there are {MAX_BLOCKS} blocks already");
                return Err(Error::FailedPrecondition(problem));
            }
            let old = before.and_then(self::block).map(|block| end(&block));
            let new = Some(end(&block));
            let change = change(&block.target, old, new);
            upsert(&administration, &[block]).await?;
            Ok(((), vec![change]))
        };
        let added = add.await;
        administration.end((by, now), added).await
    }

    async fn lift_legacy_blocks(
        &self,
        call: &CallContext,
        (by, now): (&Administrator, DateTime<Utc>),
        target: &Target,
    ) -> Result<bool, Error> {
        let _room = self.admit()?;
        let database = self.prepared()?;
        let administration = database.administration(&call.span).await?;
        let (transaction, engine) = (&administration.transaction, database.engine());
        let lift = async {
            // The id is compared byte by byte on every engine.
            let ids = [true, false].map(|is_automatic| id(target, is_automatic));
            let rows = legacy_block::Entity::find()
                .filter(active(now).add(Column::Id.is_in(ids)))
                .lock_exclusive()
                .all(transaction);
            let rows = own_statement(engine, &call.span, "SELECT", TABLE, rows).await?;
            let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
            if ids.is_empty() {
                return Ok((false, Vec::new()));
            }
            let delete =
                legacy_block::Entity::delete_many().filter(Column::Id.is_in(ids)).exec(transaction);
            own_statement(engine, &call.span, "DELETE", TABLE, delete).await?;
            let lifted = rows.into_iter().filter_map(block);
            let changes = lifted.map(|block| change(target, Some(end(&block)), None));
            Ok((true, changes.collect()))
        };
        let lifted = lift.await;
        administration.end((by, now), lifted).await
    }
}

/// Reads the blocks of a statement. Leaves out kinds of a newer version.
async fn blocks(
    database: &Database,
    span: &Span,
    select: Select<legacy_block::Entity>,
) -> Result<Vec<LegacyBlock>, Error> {
    let rows: Vec<legacy_block::Model> = database.own_rows(span, TABLE, select).await?;
    let count = rows.len();
    let blocks: Vec<_> = rows.into_iter().filter_map(block).collect();
    unknown::count(TABLE, count - blocks.len());
    Ok(blocks)
}

fn active(now: DateTime<Utc>) -> Condition {
    let lives = Condition::any()
        .add(Column::ExpireTime.is_null())
        .add(Column::ExpireTime.gt(now.timestamp_micros()));
    Condition::all().add(lives)
}

/// The number of active blocks.
async fn count(
    transaction: &DatabaseTransaction,
    is_automatic: bool,
    now: DateTime<Utc>,
) -> Result<u64, sea_orm::DbErr> {
    let own = active(now).add(Column::IsAutomatic.eq(is_automatic));
    legacy_block::Entity::find().filter(own).count(transaction).await
}

/// Stores blocks, in place of blocks with the same ids.
async fn upsert(administration: &Administration<'_>, blocks: &[LegacyBlock]) -> Result<(), Error> {
    // Databases limit the number of parameters.
    for blocks in blocks.chunks(100) {
        let rows = blocks.iter().map(|block| legacy_block::ActiveModel {
            id: Set(block.id()),
            kind: Set(block.target.kind().to_owned()),
            value: Set(block.target.value().to_owned()),
            is_automatic: Set(block.is_automatic),
            identity: Set(block.identity.clone()),
            create_time: Set(block.create_time.timestamp_micros()),
            expire_time: Set(block.expire_time.map(|end| end.timestamp_micros())),
        });
        let replace = OnConflict::column(Column::Id)
            .update_columns([Column::Identity, Column::CreateTime, Column::ExpireTime])
            .to_owned();
        administration
            .upsert(legacy_block::Entity::insert_many(rows).on_conflict(replace), TABLE)
            .await?;
    }
    Ok(())
}

fn id(target: &Target, is_automatic: bool) -> String {
    LegacyBlock {
        target: target.clone(),
        is_automatic,
        identity: String::new(),
        create_time: DateTime::default(),
        expire_time: None,
    }
    .id()
}

fn block(row: legacy_block::Model) -> Option<LegacyBlock> {
    Some(LegacyBlock {
        target: Target::from_parts(&row.kind, row.value)?,
        is_automatic: row.is_automatic,
        identity: row.identity,
        create_time: columns::time(row.create_time)?,
        expire_time: row.expire_time.map(|end| columns::time(end).unwrap_or_default()),
    })
}

/// The end of a block, for the log.
fn end(block: &LegacyBlock) -> String {
    let origin = if block.is_automatic { "automatic, " } else { "" };
    match block.expire_time {
        None => format!("{origin}blocked"),
        Some(end) => format!("{origin}blocked until {}", end.format("%FT%TZ")),
    }
}

fn change(target: &Target, old: Option<String>, new: Option<String>) -> AdminChange {
    // The column holds 255 characters.
    let name = format!("{} {}", target.kind(), target.shown()).chars().take(255).collect();
    AdminChange { object: Object::LegacyBlock, name, old, new }
}
