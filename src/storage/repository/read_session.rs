//! What one call reads, on one connection where the database is told by when.

use std::pin::pin;

use futures_util::{Stream, TryStreamExt};
use sea_orm::{
    DatabaseTransaction, DbErr, FromQueryResult, QueryTrait, Statement, StatementBuilder,
    TransactionTrait,
};

use super::Database;
use crate::{
    domain::{
        acting::Acting,
        error::Error,
        listing::Listed,
        rules::{self, Visibility},
        snapshot::{LoadPlan, Snapshot},
        update::Actor,
    },
    storage::{
        asynchronous::{
            statements::{RowLock, Statements},
            stored::{FromRow, Stored},
            transaction,
        },
        connect::{Engine, Lease},
        connection_limiter::ConnectionPermit,
        query_telemetry::statement,
        writer::reading_patience,
    },
};

/// The reads of a call, from its beginning to its [end](Reading::end). A server gives up with a caller that waits less long than
/// is usual.
pub(super) struct Reading<'a> {
    database: &'a Database,
    /// On PostgreSQL, where such a caller waits: there it is the transaction that is told by when.
    transaction: Option<DatabaseTransaction>,
    lease: Lease,
    _room: ConnectionPermit<'a>,
}

/// The bytes after which a page ends, and how many an item has.
pub(super) struct Bound<T> {
    pub(super) bytes: usize,
    pub(super) of: fn(&T) -> usize,
}

/// The rows that a statement reads.
pub(in crate::storage) struct Rows<T: FromRow> {
    pub(in crate::storage) items: Vec<T>,
    /// Whether reading stopped at the maximum of bytes, so there may be more items.
    pub(in crate::storage) is_cut: bool,
    /// The positions of the rows that cannot be read.
    pub(in crate::storage) left_out: Vec<T::Place>,
    /// Whether the last row is among them.
    ends_left_out: bool,
}

impl<T: FromRow> Rows<T> {
    /// How many rows were read.
    pub(in crate::storage) fn len(&self) -> usize {
        self.items.len() + self.left_out.len()
    }
}

/// Reads rows until the bound is reached, at least one. The rows behind it are never in memory.
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
                read.left_out.push(place);
                read.ends_left_out = true;
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
    /// Begins to read.
    pub(super) async fn reading(&self) -> Result<Reading<'_>, Error> {
        let (engine, room) = (self.engine(), self.reading.acquire().await);
        let lease = self.pools.read().await?;
        let mut transaction = None;
        if let (Engine::Postgres, Some(patience)) = (engine, reading_patience()) {
            let begin = async {
                let begun = statement(engine, "BEGIN", "", lease.begin()).await?;
                Statements { engine, connection: &begun }.bound(patience).await?;
                Ok(begun)
            };
            transaction = Some(lease.note(begin.await)?);
        }
        Ok(Reading { database: self, transaction, lease, _room: room })
    }
}

impl Reading<'_> {
    pub(super) fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// Loads what the rules need to know.
    pub(super) async fn load(&self, plan: &LoadPlan) -> Result<Snapshot, Error> {
        let (engine, lock) = (self.engine(), RowLock::None);
        let snapshot = match &self.transaction {
            Some(connection) => Statements { engine, connection }.load(plan, lock).await,
            None => {
                let connection = &*self.lease;
                Statements { engine, connection }.load(plan, lock).await
            }
        };
        let snapshot = self.lease.note(snapshot)?;
        // Whoever reads acts alone.
        if let Some(account) = snapshot.actors.values().next() {
            Acting::current().tell_account(account.id);
        }
        Ok(snapshot)
    }

    /// Which users an actor may list; and whether it may read one user, if that is given.
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

    /// The items of a page of `limit` rows, until the bound is reached. In place of rows that cannot be read the page has
    /// later ones, so that a short page is still the last one. `select` is the statement for so many rows behind a position,
    /// or for the whole page.
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
        self.lease.note(statement(engine, "SELECT", T::TABLE, rows).await)
    }

    fn statement(&self, select: &impl QueryTrait<QueryStatement: StatementBuilder>) -> Statement {
        let (engine, connection) = (self.engine(), &*self.lease);
        let select = select.build(connection.get_database_backend());
        Statements { engine, connection }.in_time(select, reading_patience())
    }

    /// The rows that a statement reads.
    pub(super) async fn rows<M: FromQueryResult>(
        &self,
        table: &'static str,
        select: &impl QueryTrait<QueryStatement: StatementBuilder>,
    ) -> Result<Vec<M>, Error> {
        let (engine, pool) = (self.engine(), &*self.lease);
        let select = M::find_by_statement(self.statement(select));
        let rows = match &self.transaction {
            Some(transaction) => statement(engine, "SELECT", table, select.all(transaction)).await,
            None => statement(engine, "SELECT", table, select.all(pool)).await,
        };
        self.lease.note(rows.map_err(Error::from))
    }

    /// Ends what was read well. Otherwise the connection is set right when it is used next.
    pub(super) async fn end(self) {
        let Self { database, transaction, lease, .. } = self;
        if let Some(transaction) = transaction {
            transaction::rollback(transaction, database.engine()).await;
        }
        lease.done();
    }
}
