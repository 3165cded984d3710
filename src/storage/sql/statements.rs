//! SQL statements that load the rules' input and store the rules' decisions, for one or many calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use foldhash::HashMap;
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    RelationDef, Select, Statement, Value,
    sea_query::{Condition, Expr, ExprTrait, LockBehavior, LockType},
};
use tokio::time::Instant;

use super::{
    entities::{account, manager_group_right, request},
    executor::{Executor, Write},
    open_transaction::in_open_transaction,
    rows::{ActingRow, Answer, Kept},
};
use crate::storage::{
    connect::Engine,
    failure::Conflict,
    patience::{patience, reading_patience},
    query_telemetry,
    texts::{Shape, backend, statement},
    unknown::Unreadable,
};
use crate::{
    domain::{
        account::{ActingAccount, User},
        error::Error,
        snapshot::{LoadPlan, SharedCause, Snapshot},
        update::StoredResponse,
    },
    trace::Span,
};

/// Maximum number of rows per write statement: drivers limit the number of parameters.
pub(super) const MAX_STATEMENT_ROWS: usize = 32;

/// The row lock on loaded users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) enum RowLock {
    /// No lock, for reads until the deadline.
    None(Option<Instant>),
    /// Locks rows. Skips rows that another transaction has locked, as if they did not exist.
    SkipLocked,
    /// Locks rows. Waits for locked rows until the deadline, or for the default timeout.
    Wait(Option<Instant>),
}

impl RowLock {
    /// The statement timeout, if shorter than the default.
    fn patience(self) -> Option<Duration> {
        match self {
            Self::None(deadline) => reading_patience(deadline),
            Self::SkipLocked => None,
            Self::Wait(deadline) => patience([deadline]),
        }
    }
}

/// Runs statements on an open transaction or, for reads, on a connection.
pub(in crate::storage) struct Statements<'a, C> {
    pub(in crate::storage) engine: Engine,
    /// The parent of the statements' spans.
    pub(in crate::storage) span: &'a Span,
    pub(in crate::storage) connection: &'a C,
}

/// The readable users, and the causes of the unreadable users.
type Users = (HashMap<i64, User>, HashMap<i64, SharedCause>);

impl<C: Executor> Statements<'_, C> {
    /// Loads the snapshot of a plan.
    pub(in crate::storage) async fn load(
        &self,
        plan: &LoadPlan,
        lock: RowLock,
    ) -> Result<Snapshot, Error> {
        if let (Engine::Postgres, RowLock::Wait(_), Some(patience)) =
            (self.engine, lock, lock.patience())
        {
            self.bound(patience).await?;
        }
        // Users first: their row locks may wait, and rights must be read after the wait.
        let (users, unreadable) = self.users(&plan.users, lock).await?;
        let actors = self.actors(&plan.actors, lock).await?;
        let requests = self.answered(&plan.requests).await?;
        let mut references = BTreeMap::new();
        for (reference, ids) in &plan.references {
            references.insert(*reference, self.existing(*reference, ids).await?);
        }
        Ok(Snapshot { actors, users, unreadable, requests, references })
    }

    /// Sets the statement timeout of a PostgreSQL transaction.
    pub(in crate::storage) async fn bound(&self, patience: Duration) -> Result<(), Error> {
        let bound = format!("SET LOCAL statement_timeout = {}", patience.as_millis().max(1));
        self.run("SET", "", self.connection.execute_unprepared(&bound)).await?;
        Ok(())
    }

    /// Adds a timeout to a read statement on MariaDB.
    pub(in crate::storage) fn in_time(
        &self,
        mut select: Statement,
        patience: Option<Duration>,
    ) -> Statement {
        if let (Engine::MySql, Some(patience)) = (self.engine, patience) {
            // Only MariaDB executes this comment. Tenths of seconds limit the prepared statements.
            let tenths = patience.as_millis().div_ceil(100).max(1);
            let bound = format!("SET STATEMENT max_statement_time={}.{}", tenths / 10, tenths % 10);
            select.sql = format!("/*M!100100 {bound} FOR */ {}", select.sql);
        }
        select
    }

    async fn actors(
        &self,
        names: &BTreeSet<String>,
        lock: RowLock,
    ) -> Result<HashMap<String, ActingAccount>, Error> {
        if names.is_empty() {
            return Ok(HashMap::default());
        }
        let mut values = vec![USERS_RIGHT.into()];
        values.extend(padded(names).map(|name| Value::from(name.as_str())));
        let select = statement(self.engine, Shape::Actors(values.len()), values, || {
            let select = account::Entity::find()
                .select_only()
                .columns([
                    account::Column::Id,
                    account::Column::Username,
                    account::Column::AccountType,
                    account::Column::Blocked,
                    account::Column::ShowOnlyAssignedUsers,
                ])
                .column(manager_group_right::Column::Level)
                .join(JoinType::LeftJoin, users_right())
                .filter(account::Column::Username.is_in(padded(names)));
            select.build(backend(self.engine))
        });
        let rows = self.connection.rows(self.in_time(select, lock.patience()));
        let rows = self.run("SELECT", "accounts manager_group_rights", rows).await?;
        Ok(rows.into_iter().map(ActingRow::account).collect::<Result<_, _>>()?)
    }

    async fn users(&self, ids: &BTreeSet<i64>, lock: RowLock) -> Result<Users, Error> {
        if ids.is_empty() {
            return Ok(Users::default());
        }
        let ids: Vec<_> = padded(ids).copied().collect();
        let waits = match lock {
            RowLock::None(_) => None,
            RowLock::SkipLocked => Some(false),
            RowLock::Wait(_) => Some(true),
        };
        let values = ids.iter().map(|id| Value::from(*id)).collect();
        let select = statement(self.engine, Shape::Users(ids.len(), waits), values, || {
            self.select(&ids, lock).build(backend(self.engine))
        });
        let users = self.connection.read::<User>(self.in_time(select, lock.patience()));
        let users = self.run("SELECT", "accounts", users).await?;
        let (mut readable, mut unreadable) = Users::default();
        for user in users {
            match user.map_err(Unreadable::shared) {
                Ok(user) => _ = readable.insert(user.id, user),
                Err(Ok((id, cause))) => _ = unreadable.insert(id, cause),
                Err(Err(unreadable)) => return Err(unreadable.into()),
            }
        }
        Ok((readable, unreadable))
    }

    fn select(&self, ids: &[i64], lock: RowLock) -> Select<account::Entity> {
        let mut select =
            account::Entity::find().filter(account::Column::Id.is_in(ids.iter().copied()));
        if matches!(lock, RowLock::Wait(_)) && ids.len() > 1 {
            // Acquire row locks in id order, to prevent deadlocks.
            select = select.order_by_asc(account::Column::Id);
        }
        // PostgreSQL's weakest row lock against writers: foreign keys may still reference the row.
        let kind = match self.engine {
            Engine::Postgres => LockType::NoKeyUpdate,
            Engine::MySql | Engine::Sqlite => LockType::Update,
        };
        match (self.engine, lock) {
            // SQLite has one write transaction at a time.
            (Engine::Sqlite, _) | (_, RowLock::None(_)) => select,
            (_, RowLock::SkipLocked) => select.lock_with_behavior(kind, LockBehavior::SkipLocked),
            (_, RowLock::Wait(_)) => select.lock(kind),
        }
    }

    /// The stored responses of earlier requests.
    async fn answered(
        &self,
        ids: &BTreeSet<String>,
    ) -> Result<HashMap<String, StoredResponse>, Error> {
        if ids.is_empty() {
            return Ok(HashMap::default());
        }
        let select = request::Entity::find().filter(request::Column::Id.is_in(padded(ids)));
        let answered = self.connection.read(select.build(backend(self.engine)));
        let answered = self.run("SELECT", "requests", answered).await?;
        let answer = |row: Result<Kept, _>| row.map(|Kept(id, answered)| (id, answered));
        Ok(answered.into_iter().map(answer).collect::<Result<_, _>>()?)
    }

    /// Stores responses under their idempotency keys.
    pub(super) async fn keep(&self, answers: &[Answer<'_>]) -> Result<(), Error> {
        let replaced = answers.iter().filter(|answer| answer.kept.replaces_copy);
        let replaced: Vec<_> = replaced.map(|answer| &*answer.key.scoped_id).collect();
        if !replaced.is_empty() {
            let delete = request::Entity::delete_many().filter(request::Column::Id.is_in(replaced));
            let delete = self.connection.execute(delete.build(backend(self.engine)));
            self.run("DELETE", "requests", delete).await?;
        }
        for portion in answers.chunks(MAX_STATEMENT_ROWS) {
            let insert = request::Entity::insert_many(portion.iter().flat_map(Answer::rows));
            let insert = in_open_transaction(insert.build(backend(self.engine)));
            self.run("INSERT", "requests", self.connection.execute(insert)).await?;
        }
        Ok(())
    }

    /// Runs write statements. Fails at once if a statement writes an unexpected number of rows: if a
    /// server has ended the transaction without an error, each statement commits by itself.
    pub(super) async fn write(&self, writes: Vec<Write>) -> Result<(), Error> {
        for Write { operation, table, statement, rows } in writes {
            if self.run(operation, table, self.connection.execute(statement)).await? != rows {
                return Err(Error::Unavailable(Conflict.into()));
            }
        }
        Ok(())
    }

    /// Runs a statement in a span.
    pub(super) async fn run<T>(
        &self,
        operation: &'static str,
        collection: &'static str,
        run: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        query_telemetry::statement(self.engine, self.span, operation, collection, run).await
    }
}

/// Repeats the last item up to a power of two: statements then have few shapes and stay prepared.
pub(in crate::storage) fn padded<T: Clone>(
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator + DoubleEndedIterator + Clone>,
) -> impl Iterator<Item = T> {
    let items = items.into_iter();
    let size = items.len().next_power_of_two();
    let last = items.clone().next_back();
    items.chain(last.into_iter().cycle()).take(size)
}

/// The name of a group's right to users.
const USERS_RIGHT: &str = "users";

/// Joins an account to its group's right to users.
fn users_right() -> RelationDef {
    let right: RelationDef = account::Entity::belongs_to(manager_group_right::Entity)
        .from(account::Column::ManagerGroupId)
        .to(manager_group_right::Column::ManagerGroupId)
        .into();
    right.on_condition(|_, right| {
        Condition::all().add(Expr::col((right, manager_group_right::Column::Name)).eq(USERS_RIGHT))
    })
}

#[cfg(test)]
mod tests;
