//! What one call reads, on one connection where the database is told by when.

use sea_orm::{
    DatabaseTransaction, FromQueryResult, QueryTrait, StatementBuilder, TransactionTrait,
};

use super::Database;
use crate::{
    domain::{
        acting::Acting,
        error::Error,
        facts::{Facts, Needs},
        rules::{self, Scope},
        update::Actor,
    },
    storage::{
        asynchronous::{
            statements::{Lock, Statements},
            transaction,
        },
        connect::Engine,
        gate::Passed,
        spans::statement,
        writer::reading_patience,
    },
};

/// The reads of a call, from its beginning to its [end](Reading::end). A server gives up with a caller that waits less long than
/// is usual.
pub(super) struct Reading<'a> {
    database: &'a Database,
    /// On PostgreSQL, where such a caller waits: there it is the transaction that is told by when.
    transaction: Option<DatabaseTransaction>,
    _connection: Passed<'a>,
}

impl Database {
    /// Begins to read.
    pub(super) async fn reading(&self) -> Result<Reading<'_>, Error> {
        let (engine, connection) = (self.engine(), self.reading.pass().await);
        let mut transaction = None;
        if let (Engine::Postgres, Some(patience)) = (engine, reading_patience()) {
            let begin = self.pools.read.begin();
            let begun = statement(engine, "BEGIN", "", begin).await?;
            Statements { engine, connection: &begun }.bound(patience).await?;
            transaction = Some(begun);
        }
        Ok(Reading { database: self, transaction, _connection: connection })
    }
}

impl Reading<'_> {
    pub(super) fn engine(&self) -> Engine {
        self.database.engine()
    }

    /// Loads what the rules need to know.
    pub(super) async fn load(&self, needs: &Needs) -> Result<Facts, Error> {
        let (engine, lock) = (self.engine(), Lock::None);
        let facts = match &self.transaction {
            Some(connection) => Statements { engine, connection }.load(needs, lock).await,
            None => {
                let connection = &self.database.pools.read;
                Statements { engine, connection }.load(needs, lock).await
            }
        };
        let facts = facts?;
        // Whoever reads acts alone.
        if let Some(account) = facts.actors.values().next() {
            Acting::current().tell_account(account.id);
        }
        Ok(facts)
    }

    /// Which users an actor may list; and whether it may read one user, if that is given.
    pub(super) async fn scope(&self, actor: &Actor, user_id: Option<i64>) -> Result<Scope, Error> {
        let mut needs = Needs::default();
        needs.add_actor(actor);
        needs.users.extend(user_id);
        let facts = self.load(&needs).await?;
        if let Some(user_id) = user_id {
            rules::read(actor, user_id, &facts)?;
        }
        rules::scope(actor, &facts)
    }

    /// The rows that a statement reads.
    pub(super) async fn rows<M: FromQueryResult>(
        &self,
        table: &'static str,
        select: &impl QueryTrait<QueryStatement: StatementBuilder>,
    ) -> Result<Vec<M>, Error> {
        let (engine, pool) = (self.engine(), &self.database.pools.read);
        let select = select.build(pool.get_database_backend());
        let select = Statements { engine, connection: pool }.in_time(select, reading_patience());
        let select = M::find_by_statement(select);
        let rows = match &self.transaction {
            Some(transaction) => statement(engine, "SELECT", table, select.all(transaction)).await,
            None => statement(engine, "SELECT", table, select.all(pool)).await,
        };
        Ok(rows?)
    }

    /// Ends what was read well. Otherwise the connection is set right when it is used next.
    pub(super) async fn end(self) {
        if let Some(transaction) = self.transaction {
            transaction::rollback(transaction, self.database.engine()).await;
        }
    }
}
