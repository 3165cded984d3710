//! Begins a new epoch of a restored database.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ConnectionTrait, DatabaseTransaction, EntityTrait, QueryOrder, Statement,
    sea_query::{Expr, ExprTrait},
};

use super::{
    connect::Engine,
    database::{Administration, Database},
    query_telemetry::{own_statement, statement},
    sql::entities::{account, database_epoch},
    store::SqlStore,
    token_key,
};
use crate::{
    domain::{
        administration::{AdminChange, Administrator, Object},
        call_context::CallContext,
        epoch::{self, VERSIONS_PER_EPOCH},
        error::Error,
    },
    trace::Span,
};

const TABLE: &str = "database_epochs";

impl SqlStore {
    /// Begins a new epoch: it invalidates all earlier etags, tokens and change ids. Updates every row of
    /// `accounts`. Returns the number of the epoch.
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
        let before = database.epochs(&call.span).await?.pop().map_or(0, |last| last.epoch);
        let epoch = epoch::number(before, now);
        if database.engine() == Engine::MySql {
            // DDL commits, so it comes before the transaction. Skipped ids do no harm.
            let first = epoch::first_change_id(epoch);
            let sql = format!("ALTER TABLE change_log AUTO_INCREMENT = {first}");
            let (_room, lease) = database.own_writing().await?;
            let alter = lease.execute_unprepared(&sql);
            let altered =
                own_statement(database.engine(), &call.span, "ALTER", "change_log", alter);
            lease.note(altered.await)?;
            lease.done();
        }
        let last = database.newest_changes(&call.span, 1).await?.pop().unwrap_or_default();
        let administration = database.administration(&call.span).await?;
        let begun = begin(&administration, database.engine(), &call.span, (epoch, last), now).await;
        let change = AdminChange {
            object: Object::Epoch,
            name: "epoch".to_owned(),
            old: Some(before.to_string()),
            new: Some(epoch.to_string()),
        };
        administration.end((by, now), begun.map(|()| (epoch, vec![change]))).await
    }
}

async fn begin(
    administration: &Administration<'_>,
    engine: Engine,
    span: &Span,
    (epoch, last): (i64, i64),
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let transaction = &administration.transaction;
    let first = epoch::first_change_id(epoch);
    let row = database_epoch::ActiveModel {
        epoch: Set(epoch),
        begin_time: Set(now.timestamp_micros()),
        last_change_id: Set(last),
        first_change_id: Set(first),
    };
    // Of two concurrent commands, one fails here.
    administration.insert(row, TABLE).await?;
    if let Some(unlimited) = unlimited(engine) {
        let unlimited = transaction.execute_unprepared(unlimited);
        own_statement(engine, span, "SET", "", unlimited).await?;
    }
    let version = account::Column::Version;
    let own = Expr::col(version).modulo(VERSIONS_PER_EPOCH);
    let next = own.add(epoch * VERSIONS_PER_EPOCH);
    let versions = account::Entity::update_many().col_expr(version, next).exec(transaction);
    // However long it takes.
    statement(engine, span, "UPDATE", "accounts", versions).await?;
    token_key::replace(transaction, epoch).await?;
    advance(transaction, engine, span, first - 1).await
}

/// Lifts the timeout of statements.
fn unlimited(engine: Engine) -> Option<&'static str> {
    match engine {
        Engine::Sqlite => None,
        Engine::Postgres => Some("SET LOCAL statement_timeout = 0"),
        Engine::MySql => {
            Some("SET SESSION net_write_timeout = 3600 /*M!100100 , max_statement_time = 0 */")
        }
    }
}

/// Advances the sequence of the change log.
async fn advance(
    transaction: &DatabaseTransaction,
    engine: Engine,
    span: &Span,
    last: i64,
) -> Result<(), Error> {
    let sql: &[&str] = match engine {
        Engine::MySql => return Ok(()),
        Engine::Postgres => &["SELECT setval(pg_get_serial_sequence('change_log', 'id'), $1)"],
        // SQLite has no row for a table without inserts.
        Engine::Sqlite => &[
            "DELETE FROM sqlite_sequence WHERE name = 'change_log' AND seq < ?",
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('change_log', ?)",
        ],
    };
    for sql in sql {
        let backend = transaction.get_database_backend();
        let advance = Statement::from_sql_and_values(backend, *sql, [last.into()]);
        let advance = transaction.execute_raw(advance);
        own_statement(engine, span, "UPDATE", "change_log", advance).await?;
    }
    Ok(())
}

impl Database {
    /// The epochs, oldest first.
    pub(super) async fn epochs(&self, span: &Span) -> Result<Vec<database_epoch::Model>, Error> {
        let select = database_epoch::Entity::find().order_by_asc(database_epoch::Column::Epoch);
        self.own_rows(span, TABLE, select).await
    }
}
