//! Administrative changes: each is stored in one transaction with its log entries.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, InsertMany, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::Expr,
};

use super::{Begun, Database};
use crate::{
    domain::{
        administration::{AdminChange, AdminEntry, Administrator, Object},
        error::Error,
        settings::Settings,
    },
    storage::{
        connect::Lease,
        connection_limiter::ConnectionPermit,
        query_telemetry::own_statement,
        settings,
        sql::{columns, entities::administration_log},
    },
    trace::Span,
};

const TABLE: &str = "administration_log";
/// Log entries per statement: databases limit the number of parameters.
const ENTRIES_PER_STATEMENT: usize = 500;

/// A begun administrative change.
pub(in crate::storage) struct Administration<'a> {
    pub(in crate::storage) transaction: DatabaseTransaction,
    database: &'a Database,
    span: &'a Span,
    lease: Lease,
    /// `None` for background work.
    _room: Option<ConnectionPermit<'a>>,
}

impl Database {
    /// Begins an administrative change.
    pub(in crate::storage) async fn administration<'a>(
        &'a self,
        span: &'a Span,
    ) -> Result<Administration<'a>, Error> {
        let room = self.own_work.acquire().await;
        let Begun { transaction, lease } = self.begin(span).await?;
        Ok(Administration { transaction, database: self, span, lease, _room: Some(room) })
    }

    /// Begins background work, which keeps nobody from internal work. One task at a time may do so.
    pub(in crate::storage) async fn background<'a>(
        &'a self,
        span: &'a Span,
    ) -> Result<Administration<'a>, Error> {
        let Begun { transaction, lease } = self.begin(span).await?;
        Ok(Administration { transaction, database: self, span, lease, _room: None })
    }

    pub(in crate::storage) async fn update_settings(
        &self,
        span: &Span,
        by: (&Administrator, DateTime<Utc>),
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error> {
        let administration = self.administration(span).await?;
        let transaction = &administration.transaction;
        let update = async {
            let lock = settings::lock(transaction);
            own_statement(self.engine(), span, "INSERT", "settings", lock).await?;
            let load = settings::load(transaction);
            let stored = own_statement(self.engine(), span, "SELECT", "settings", load).await?;
            let settings = change(stored.clone());
            settings.check()?;
            if settings != stored {
                let save = settings::save(transaction, &stored, &settings);
                own_statement(self.engine(), span, "INSERT", "settings", save).await?;
            }
            let changes = settings::changes(&stored, &settings);
            Ok((settings, changes))
        };
        let updated = update.await;
        administration.end(by, updated).await
    }

    /// A page of the administration log, newest first: entries with ids below `before`.
    pub(in crate::storage) async fn administration_log(
        &self,
        span: &Span,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AdminEntry>, Error> {
        let id = administration_log::Column::Id;
        let select = administration_log::Entity::find()
            .filter(Condition::all().add_option(before.map(|before| id.lt(before))))
            .order_by_desc(id)
            .limit(limit);
        let rows: Vec<administration_log::Model> = self.own_rows(span, TABLE, select).await?;
        Ok(rows.into_iter().map(entry).collect())
    }
}

impl Administration<'_> {
    /// Revokes the unrevoked tokens or keys with an id; if there are none, those with a name: a name
    /// may be another one's id. Returns their number and the log entries.
    pub(in crate::storage) async fn revoke<E: EntityTrait>(
        &self,
        object: Object,
        (table, [id, name, revoke_time]): (&'static str, [E::Column; 3]),
        id_or_name: &str,
        now: DateTime<Utc>,
    ) -> Result<(usize, Vec<AdminChange>), Error> {
        let engine = self.database.engine();
        for column in [id, name] {
            let live = E::find().filter(column.eq(id_or_name)).filter(revoke_time.is_null());
            let live = live.select_only().column(id).lock_exclusive().into_tuple::<String>();
            let live = live.all(&self.transaction);
            let ids = own_statement(engine, self.span, "SELECT", table, live).await?;
            if ids.is_empty() {
                continue;
            }
            let update = E::update_many()
                .col_expr(revoke_time, Expr::val(now.timestamp_micros()))
                .filter(id.is_in(ids.clone()))
                .filter(revoke_time.is_null())
                .exec(&self.transaction);
            own_statement(engine, self.span, "UPDATE", table, update).await?;
            let change = |id| AdminChange {
                object,
                name: id,
                old: Some("active".to_owned()),
                new: Some("revoked".to_owned()),
            };
            return Ok((ids.len(), ids.into_iter().map(change).collect()));
        }
        Ok((0, Vec::new()))
    }

    /// Inserts a token or key.
    pub(in crate::storage) async fn insert<E: EntityTrait>(
        &self,
        row: impl ActiveModelTrait<Entity = E>,
        table: &'static str,
    ) -> Result<(), Error> {
        let insert = E::insert(row).exec_without_returning(&self.transaction);
        own_statement(self.database.engine(), self.span, "INSERT", table, insert).await?;
        Ok(())
    }

    /// Inserts rows, or updates the rows with the same keys.
    pub(in crate::storage) async fn upsert<A: ActiveModelTrait>(
        &self,
        insert: InsertMany<A>,
        table: &'static str,
    ) -> Result<(), Error> {
        let insert = insert.exec_without_returning(&self.transaction);
        own_statement(self.database.engine(), self.span, "INSERT", table, insert).await?;
        Ok(())
    }

    /// Stores the log entries of a change and commits. Rolls back after an error, and returns it.
    pub(in crate::storage) async fn end<T>(
        self,
        (by, now): (&Administrator, DateTime<Utc>),
        outcome: Result<(T, Vec<AdminChange>), Error>,
    ) -> Result<T, Error> {
        let Self { transaction, database, span, lease, _room } = self;
        let engine = database.engine();
        let commit = async {
            let (value, changes) = outcome?;
            for changes in changes.chunks(ENTRIES_PER_STATEMENT) {
                let rows = changes.iter().map(|change| row(by, now, change));
                let insert = administration_log::Entity::insert_many(rows);
                let insert = insert.exec_without_returning(&transaction);
                own_statement(engine, span, "INSERT", TABLE, insert).await?;
            }
            own_statement(engine, span, "COMMIT", "", transaction.commit()).await?;
            Ok((value, changes))
        };
        let (value, changes) = lease.note(commit.await)?;
        lease.done();
        if let Some(place) = database.place() {
            place.check()?;
        }
        for AdminChange { object, name, .. } in &changes {
            let name = (!object.has_username()).then_some(name);
            tracing::info!(
                object = object.as_str(),
                name,
                identity = by.identity,
                "an administrative change is stored"
            );
        }
        Ok(value)
    }
}

fn row(
    by: &Administrator,
    now: DateTime<Utc>,
    change: &AdminChange,
) -> administration_log::ActiveModel {
    administration_log::ActiveModel {
        id: NotSet,
        change_time: Set(now.timestamp_micros()),
        identity: Set(by.identity.clone()),
        acting_username: Set(by.acting_username.clone()),
        address: Set(by.address.clone()),
        object: Set(change.object.as_str().to_owned()),
        name: Set(change.name.clone()),
        old_value: Set(change.old.clone()),
        new_value: Set(change.new.clone()),
    }
}

fn entry(row: administration_log::Model) -> AdminEntry {
    let administration_log::Model { identity, acting_username, address, .. } = row;
    AdminEntry {
        id: row.id,
        time: columns::time(row.change_time).unwrap_or_default(),
        by: Administrator { identity, acting_username, address },
        object: row.object,
        name: row.name,
        old: row.old_value,
        new: row.new_value,
    }
}
