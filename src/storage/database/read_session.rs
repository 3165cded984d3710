//! The reads of one call, on one connection and within the caller's deadline.

use std::pin::pin;

use futures_util::{Stream, TryStreamExt};
use sea_orm::{
    DatabaseTransaction, DbErr, FromQueryResult, QueryTrait, Statement, StatementBuilder,
    TransactionTrait,
};

use super::Database;
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        listing::Listed,
        rules::{self, Visibility},
        snapshot::{LoadPlan, Snapshot},
        update::Actor,
    },
    storage::{
        connect::{Engine, Lease},
        connection_limiter::ConnectionPermit,
        patience::reading_patience,
        query_telemetry::statement,
        sql::{
            statements::{RowLock, Statements},
            stored::{FromRow, Stored},
            transaction,
        },
    },
};

/// The reads of one call, up to [`Reading::end`]. The server enforces a deadline that is shorter
/// than the default statement timeout.
pub(super) struct Reading<'a> {
    database: &'a Database,
    call: &'a CallContext,
    /// Only on PostgreSQL with such a deadline: the timeout is set per transaction.
    transaction: Option<DatabaseTransaction>,
    lease: Lease,
    _room: ConnectionPermit<'a>,
}

/// The byte limit of a page, and the size of an item in bytes.
pub(super) struct Bound<T> {
    pub(super) bytes: usize,
    pub(super) of: fn(&T) -> usize,
}

/// The rows of a statement.
pub(in crate::storage) struct Rows<T: FromRow> {
    pub(in crate::storage) items: Vec<T>,
    /// Whether reading stopped at the byte limit: more rows may follow.
    pub(in crate::storage) is_cut: bool,
    /// The positions of unreadable rows without a marker.
    pub(in crate::storage) left_out: Vec<T::Place>,
    /// Whether the last row is unreadable.
    ends_left_out: bool,
}

impl<T: FromRow> Rows<T> {
    pub(in crate::storage) fn len(&self) -> usize {
        self.items.len() + self.left_out.len()
    }
}

/// Reads rows up to the byte limit, at least one row. Later rows are never in memory.
pub(super) async fn collect<T: FromRow>(
    rows: impl Stream<Item = Result<Stored<T>, DbErr>>,
    Bound { bytes, of }: Bound<T>,
) -> Result<Rows<T>, Error> {
    let mut rows = pin!(rows);
    let (items, left_out) = (Vec::new(), Vec::new());
    let mut read = Rows { items, is_cut: false, left_out, ends_left_out: false };
    let mut used = 0;
    while let Some(row) = rows.try_next().await? {
        read.ends_left_out = false;
        match row {
            Stored::Read(item) => {
                used += of(&item);
                read.items.push(item);
            }
            Stored::Unreadable(place, unreadable) => {
                unreadable.left_out();
                match T::marker(place, &unreadable) {
                    Ok(marker) => {
                        used += of(&marker);
                        read.items.push(marker);
                    }
                    Err(place) => {
                        read.left_out.push(place);
                        read.ends_left_out = true;
                    }
                }
            }
        }
        if used >= bytes {
            read.is_cut = true;
            break;
        }
    }
    Ok(read)
}

impl Database {
    /// Acquires a connection for the reads of one call.
    pub(super) async fn reading<'a>(&'a self, call: &'a CallContext) -> Result<Reading<'a>, Error> {
        let span = &call.span;
        let (engine, room) = (self.engine(), self.reading.acquire().await);
        let lease = self.pools.read().await?;
        let mut transaction = None;
        if let (Engine::Postgres, Some(patience)) = (engine, reading_patience(call.deadline)) {
            let begin = async {
                let begun = statement(engine, span, "BEGIN", "", lease.begin()).await?;
                Statements { engine, span, connection: &begun }.bound(patience).await?;
                Ok(begun)
            };
            transaction = Some(lease.note(begin.await)?);
        }
        Ok(Reading { database: self, call, transaction, lease, _room: room })
    }
}

impl Reading<'_> {
    pub(super) fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// Loads the snapshot of a plan.
    pub(super) async fn load(&self, plan: &LoadPlan) -> Result<Snapshot, Error> {
        let (engine, span) = (self.engine(), &self.call.span);
        let lock = RowLock::None(self.call.deadline);
        let snapshot = match &self.transaction {
            Some(connection) => Statements { engine, span, connection }.load(plan, lock).await,
            None => {
                let connection = &*self.lease;
                Statements { engine, span, connection }.load(plan, lock).await
            }
        };
        let snapshot = self.lease.note(snapshot)?;
        // A read has a single actor.
        if let Some(account) = snapshot.actors.values().next() {
            self.call.record.set_account(account.id);
        }
        Ok(snapshot)
    }

    /// Which users an actor may list. With `user_id`, fails if the actor may not read this user.
    pub(super) async fn visibility(
        &self,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<Visibility, Error> {
        let mut plan = LoadPlan::default();
        plan.add_actor(actor);
        plan.users.extend(user_id);
        let snapshot = self.load(&plan).await?;
        if let Some(user_id) = user_id {
            rules::read(actor, user_id, &snapshot)?;
        }
        rules::visibility(actor, &snapshot)
    }

    /// Reads a page of `limit` rows, up to the byte limit. Later rows replace unreadable rows: a
    /// short page is still the last page. `select` builds the statement for the first read, or for
    /// a number of rows after a position.
    pub(super) async fn page<T: FromRow<Place: Send> + Send, S>(
        &self,
        limit: u64,
        select: impl Fn(Option<(T::Place, u64)>) -> S,
        Bound { mut bytes, of }: Bound<T>,
    ) -> Result<Listed<T>, Error>
    where
        S: QueryTrait<QueryStatement: StatementBuilder>,
    {
        let (mut page, mut rest) = (Listed { items: Vec::new(), is_cut: false }, limit);
        let mut behind = None;
        loop {
            let mut read = self.some(&select(behind), Bound { bytes, of }).await?;
            let is_last = read.left_out.is_empty() || (read.len() as u64) < rest;
            let last = if read.ends_left_out {
                read.left_out.pop()
            } else {
                read.items.last().map(T::place)
            };
            rest -= read.items.len() as u64;
            bytes = bytes.saturating_sub(read.items.iter().map(of).sum());
            page.is_cut = read.is_cut;
            page.items.append(&mut read.items);
            match last {
                Some(last) if !is_last && !page.is_cut => behind = Some((last, rest)),
                _ => return Ok(page),
            }
        }
    }

    async fn some<T: FromRow<Place: Send> + Send>(
        &self,
        select: &impl QueryTrait<QueryStatement: StatementBuilder>,
        bound: Bound<T>,
    ) -> Result<Rows<T>, Error> {
        let (engine, pool) = (self.engine(), &*self.lease);
        let select = Stored::<T>::find_by_statement(self.statement(select));
        let rows = async {
            match &self.transaction {
                Some(connection) => collect(select.stream(connection).await?, bound).await,
                None => collect(select.stream(pool).await?, bound).await,
            }
        };
        self.lease.note(statement(engine, &self.call.span, "SELECT", T::TABLE, rows).await)
    }

    fn statement(&self, select: &impl QueryTrait<QueryStatement: StatementBuilder>) -> Statement {
        let (engine, span, connection) = (self.engine(), &self.call.span, &*self.lease);
        let select = select.build(connection.get_database_backend());
        let patience = reading_patience(self.call.deadline);
        Statements { engine, span, connection }.in_time(select, patience)
    }

    /// All rows of a statement.
    pub(super) async fn rows<M: FromQueryResult>(
        &self,
        table: &'static str,
        select: &impl QueryTrait<QueryStatement: StatementBuilder>,
    ) -> Result<Vec<M>, Error> {
        let (engine, pool) = (self.engine(), &*self.lease);
        let select = M::find_by_statement(self.statement(select));
        let rows = async {
            match &self.transaction {
                Some(transaction) => select.all(transaction).await,
                None => select.all(pool).await,
            }
        };
        let rows = statement(engine, &self.call.span, "SELECT", table, rows).await;
        self.lease.note(rows.map_err(Error::from))
    }

    /// Ends successful reads. After a failure, the connection is checked before its next use.
    pub(super) async fn end(self) {
        let Self { database, call, transaction, lease, .. } = self;
        if let Some(transaction) = transaction {
            transaction::rollback(transaction, database.engine(), &call.span).await;
        }
        lease.done();
    }
}
