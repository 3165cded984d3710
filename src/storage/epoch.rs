//! Begins a new epoch of a restored database.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ConnectionTrait, EntityTrait, QueryOrder, Statement,
    sea_query::{Expr, ExprTrait},
};

use super::{
    connect::Engine,
    database::{Administration, Database},
    query_telemetry::own_statement,
    sql::entities::{account, database_epoch},
    store::SqlStore,
    token_key,
};
use crate::{
    domain::{
        administration::{AdminChange, Administrator, Object},
        call_context::CallContext,
        epoch::{SKIPPED_CHANGE_IDS, VERSIONS_PER_EPOCH},
        error::Error,
    },
    trace::Span,
};

const TABLE: &str = "database_epochs";

impl SqlStore {
    /// Begins a new epoch: etags, tokens and change ids of before match nothing any more. Returns its
    /// number, from 1. Takes as long as an update of all rows of `accounts`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn begin_epoch(
        &self,
        call: &CallContext,
        (by, now): (&Administrator, DateTime<Utc>),
    ) -> Result<i64, Error> {
        let _room = self.admit()?;
        let database = self.prepared()?;
        let last = database.newest_changes(&call.span, 1).await?.pop().unwrap_or_default();
        let first = last + SKIPPED_CHANGE_IDS + 1;
        if database.engine() == Engine::MySql {
            // DDL commits, so it comes before the transaction. Skipping ids twice does no harm.
            let sql = format!("ALTER TABLE change_log AUTO_INCREMENT = {first}");
            let (_room, lease) = database.own_writing().await?;
            let alter = lease.execute_unprepared(&sql);
            let altered =
                own_statement(database.engine(), &call.span, "ALTER", "change_log", alter);
            lease.note(altered.await)?;
            lease.done();
        }
        let administration = database.administration(&call.span).await?;
        let begun = begin(&administration, database, &call.span, (last, first), now).await;
        let change = |epoch: i64| AdminChange {
            object: Object::Epoch,
            name: "epoch".to_owned(),
            old: Some((epoch - 1).to_string()),
            new: Some(epoch.to_string()),
        };
        administration.end((by, now), begun.map(|epoch| (epoch, vec![change(epoch)]))).await
    }
}

async fn begin(
    administration: &Administration<'_>,
    database: &Database,
    span: &Span,
    (last, first): (i64, i64),
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    let (transaction, engine) = (&administration.transaction, database.engine());
    let newest = database_epoch::Entity::find().order_by_desc(database_epoch::Column::Epoch);
    let newest = own_statement(engine, span, "SELECT", TABLE, newest.one(transaction)).await?;
    let epoch = newest.map_or(0, |newest| newest.epoch) + 1;
    let row = database_epoch::ActiveModel {
        epoch: Set(epoch),
        begin_time: Set(now.timestamp_micros()),
        last_change_id: Set(last),
        first_change_id: Set(first),
    };
    // Of two concurrent commands, one fails here.
    administration.insert(row, TABLE).await?;
    let version = account::Column::Version;
    let next = Expr::col(version).add(VERSIONS_PER_EPOCH);
    let versions = account::Entity::update_many().col_expr(version, next).exec(transaction);
    own_statement(engine, span, "UPDATE", "accounts", versions).await?;
    token_key::replace(transaction, epoch).await?;
    let backend = transaction.get_database_backend();
    let skip = match engine {
        Engine::MySql => None,
        Engine::Postgres => Some(Statement::from_sql_and_values(
            backend,
            "SELECT setval(pg_get_serial_sequence('change_log', 'id'), $1)",
            [(first - 1).into()],
        )),
        Engine::Sqlite => Some(Statement::from_sql_and_values(
            backend,
            "UPDATE sqlite_sequence SET seq = ? WHERE name = 'change_log'",
            [(first - 1).into()],
        )),
    };
    if let Some(skip) = skip {
        let skip = transaction.execute_raw(skip);
        own_statement(engine, span, "UPDATE", "change_log", skip).await?;
    }
    Ok(epoch)
}

impl Database {
    /// The epochs, oldest first.
    pub(super) async fn epochs(&self, span: &Span) -> Result<Vec<database_epoch::Model>, Error> {
        let select = database_epoch::Entity::find().order_by_asc(database_epoch::Column::Epoch);
        self.own_rows(span, TABLE, select).await
    }
}
