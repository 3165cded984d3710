//! Statements that store decisions.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, Iterable, QueryFilter, QueryTrait, Statement, StatementBuilder,
    Value,
    sea_query::{CaseStatement, Expr, ExprTrait},
};

use super::{
    columns,
    entities::{account, change_log},
    executor::Write,
    open_transaction::{in_open_transaction, open_transaction},
    statements::{MAX_STATEMENT_ROWS, padded},
};
use crate::{
    domain::{
        error::Error,
        update::{Entry, Updated},
    },
    storage::{
        connect::Engine,
        failure::Corrupt,
        texts::{Shape, backend, statement},
    },
};

impl Write {
    /// The statements that store changes in order, and their change log entries. On servers a
    /// statement costs a round trip: one statement stores the same fields of different users, and
    /// one stores many entries. On SQLite one statement per row is faster: SQLite copies all pages
    /// that a multi-row statement changes, in case it fails midway, and each number of rows is
    /// another statement to prepare.
    pub(super) fn all(
        engine: Engine,
        mut changes: Vec<(&Updated, &Entry)>,
    ) -> Result<Vec<Self>, Error> {
        let fields = |(updated, _): &(&Updated, &Entry)| {
            updated.changes.iter().map(|change| change.field).collect::<Vec<_>>()
        };
        let mut users = BTreeSet::new();
        let combine = engine != Engine::Sqlite
            && changes.iter().all(|(updated, _)| users.insert(updated.user.id));
        if combine {
            changes.sort_by_cached_key(fields);
        }
        let mut writes = Vec::new();
        for group in changes.chunk_by(|one, next| combine && fields(one) == fields(next)) {
            for portion in group.chunks(MAX_STATEMENT_ROWS) {
                let users: Vec<_> = portion.iter().map(|(updated, _)| *updated).collect();
                writes.push(Self::update(engine, &users)?);
            }
        }
        let portion = if engine == Engine::Sqlite { 1 } else { MAX_STATEMENT_ROWS };
        writes.extend(changes.chunks(portion).map(|entries| Self::insert(engine, entries)));
        Ok(writes)
    }

    /// Stores the same fields of several users.
    fn update(engine: Engine, users: &[&Updated]) -> Result<Self, Error> {
        let rows: Vec<_> = users.iter().map(|updated| row(updated)).collect::<Result<_, _>>()?;
        let statement = if let ([updated], [row]) = (users, &*rows) {
            one(engine, updated, row)
        } else {
            several(engine, users, &rows)
        };
        Ok(Self { operation: "UPDATE", table: "accounts", statement, rows: users.len() as u64 })
    }

    /// Stores entries of the change log.
    fn insert(engine: Engine, entries: &[(&Updated, &Entry)]) -> Self {
        let values = entries.iter().flat_map(|one| {
            let mut entry = entry(one);
            change_log::Column::iter().filter_map(move |column| entry.take(column).into_value())
        });
        let statement = statement(engine, Shape::Entries(entries.len()), values.collect(), || {
            let insert = change_log::Entity::insert_many(entries.iter().map(entry));
            in_open_transaction(StatementBuilder::build(&insert.into_query(), &backend(engine)))
        });
        Self { operation: "INSERT", table: "change_log", statement, rows: entries.len() as u64 }
    }
}

/// Stores fields of one user.
fn one(
    engine: Engine,
    Updated { user, changes }: &Updated,
    row: &account::ActiveModel,
) -> Statement {
    let guard = [user.id.into(), (user.version - 1).into()];
    let values = set(row).map(|(_, value)| value).chain(guard).collect();
    let shape = Shape::Update(changes.iter().map(|change| change.field).collect());
    statement(engine, shape, values, || {
        let update = account::Entity::update_many()
            .set(row.clone())
            .filter(account::Column::Id.eq(user.id))
            .filter(account::Column::Version.eq(user.version - 1))
            .filter(open_transaction());
        StatementBuilder::build(&update.into_query(), &backend(engine))
    })
}

/// Stores the same fields of several users, on a server.
fn several(engine: Engine, users: &[&Updated], rows: &[account::ActiveModel]) -> Statement {
    let ids = || padded(users).map(|updated| updated.user.id);
    let stored = |index: usize| users[index].user.version - 1;
    // All rows set the same columns.
    let set: Vec<Vec<_>> = rows.iter().map(|row| set(row).collect()).collect();
    let cases = |value: &dyn Fn(usize) -> Value| -> Vec<Value> {
        let pairs = padded(0..users.len());
        pairs.flat_map(|index| [users[index].user.id.into(), value(index)]).collect()
    };
    let mut values = Vec::new();
    for (position, _) in set[0].iter().enumerate() {
        values.extend(cases(&|index| set[index][position].1.clone()));
    }
    values.extend(ids().map(Value::from));
    values.extend(cases(&|index| stored(index).into()));
    let fields = users[0].changes.iter().map(|change| change.field).collect();
    statement(engine, Shape::Updates(fields, ids().count()), values, || {
        let case = |value: &dyn Fn(usize) -> Value| -> Expr {
            let cases = padded(0..users.len()).fold(CaseStatement::new(), |cases, index| {
                cases.case(account::Column::Id.eq(users[index].user.id), value(index))
            });
            cases.into()
        };
        let mut update = account::Entity::update_many();
        for (position, (column, _)) in set[0].iter().enumerate() {
            update = update.col_expr(*column, case(&|index| set[index][position].1.clone()));
        }
        let stored = case(&|index| stored(index).into());
        let update = update
            .filter(account::Column::Id.is_in(ids()))
            .filter(Expr::col(account::Column::Version).eq(stored))
            .filter(open_transaction());
        StatementBuilder::build(&update.into_query(), &backend(engine))
    })
}

/// The set columns and their values.
fn set(row: &account::ActiveModel) -> impl Iterator<Item = (account::Column, Value)> {
    account::Column::iter().filter_map(|column| Some((column, row.get(column).into_value()?)))
}

/// The account row with the changed columns.
fn row(Updated { user, changes }: &Updated) -> Result<account::ActiveModel, Corrupt> {
    let mut row = account::ActiveModel {
        version: Set(user.version),
        update_time: Set(user.update_time.timestamp_micros()),
        ..<account::ActiveModel as Default>::default()
    };
    for change in changes {
        columns::set(&mut row, change.field, &change.new)?;
    }
    Ok(row)
}

/// An entry of the change log.
fn entry((Updated { user, changes }, entry): &(&Updated, &Entry)) -> change_log::ActiveModel {
    change_log::ActiveModel {
        user_id: Set(user.id),
        version: Set(user.version),
        change_time: Set(user.update_time.timestamp_micros()),
        actor_id: Set(entry.actor_id),
        service: Set(entry.service.clone()),
        door: Set(entry.origin.door.as_str().to_owned()),
        address: Set(entry.origin.address.clone()),
        reason: Set(entry.origin.reason.clone()),
        request_id: Set(entry.origin.request_id.clone()),
        traceparent: Set(entry.origin.traceparent.clone()),
        identity: Set(entry.origin.identity.clone()),
        changes: Set(columns::changes_to_json(changes)),
        ..<change_log::ActiveModel as Default>::default()
    }
}
