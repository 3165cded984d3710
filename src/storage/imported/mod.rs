//! Rows that an import reads and inserts. New accounts have no entry in the change log; stored
//! accounts are changed by updates only.

mod accounts;
mod named;
mod rights;
mod sequences;
mod statistics;

use futures_util::future::join_all;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, SqlErr, Statement};

use super::{
    connect::Engine, database::again, failure::is_conflict, query_telemetry::own_statement,
    store::SqlStore,
};
use crate::{
    domain::{
        administration::Administrator,
        error::{Cause, Error},
        imported::Clash,
    },
    trace::Span,
};

/// Rows per transaction: a failure loses little, and locks are short.
const ROWS_PER_TRANSACTION: usize = 500;
/// Concurrent transactions on a server. The driver leaves Nagle's algorithm on: a large statement
/// waits up to 40 ms for a delayed acknowledgement, in which other transactions proceed.
const CONCURRENT_TRANSACTIONS: usize = 4;

/// Retries of a transaction that conflicts with another one.
const MAX_INSERT_RETRIES: u32 = 3;

/// A constraint refused a row.
#[derive(Debug, thiserror::Error)]
#[error("a constraint refuses a row")]
struct Refused(Clash);

impl SqlStore {
    /// Runs inserts in one transaction. A refused row undoes all of them.
    async fn insert(
        &self,
        table: &'static str,
        statements: Vec<Statement>,
    ) -> Result<Result<(), Clash>, Error> {
        let (database, span) = (self.prepared()?, Span::default());
        let administration = database.background(&span).await?;
        let insert = async {
            for statement in statements {
                let insert = async {
                    match administration.transaction.execute_raw(statement).await {
                        Ok(_) => Ok(Ok(())),
                        Err(error) => clash(&error).map(Err).ok_or(error),
                    }
                };
                let inserted = own_statement(database.engine(), &span, "INSERT", table, insert);
                inserted.await?.map_err(|clash| Error::Internal(Refused(clash).into()))?;
            }
            Ok(((), Vec::new()))
        };
        let inserted = insert.await;
        let nobody = (&Administrator::default(), chrono::DateTime::UNIX_EPOCH);
        match administration.end(nobody, inserted).await {
            Ok(()) => Ok(Ok(())),
            Err(Error::Internal(cause)) => refused(&cause).map(Err).ok_or(Error::Internal(cause)),
            Err(error) => Err(error),
        }
    }

    /// Inserts rows in transactions of [`ROWS_PER_TRANSACTION`]. Returns the refused rows by index.
    async fn insert_all<T: Sync>(
        &self,
        table: &'static str,
        rows: &[T],
        statements: impl Fn(&[T]) -> Result<Vec<Statement>, Error>,
    ) -> Result<Vec<(usize, Clash)>, Error> {
        let concurrent = match self.engine() {
            Engine::Sqlite => 1,
            Engine::Postgres | Engine::MySql => CONCURRENT_TRANSACTIONS,
        };
        let mut refused = Vec::new();
        for (index, group) in rows.chunks(ROWS_PER_TRANSACTION * concurrent).enumerate() {
            let portions = group.chunks(ROWS_PER_TRANSACTION);
            let inserts = portions.map(|portion| self.insert_portion(table, portion, &statements));
            let start = index * ROWS_PER_TRANSACTION * concurrent;
            for (portion, clashes) in join_all(inserts).await.into_iter().enumerate() {
                let start = start + portion * ROWS_PER_TRANSACTION;
                refused.extend(clashes?.into_iter().map(|(row, clash)| (start + row, clash)));
            }
        }
        Ok(refused)
    }

    /// Inserts rows in one transaction. If a constraint refuses a row, inserts the rows one by one.
    async fn insert_portion<T>(
        &self,
        table: &'static str,
        rows: &[T],
        statements: impl Fn(&[T]) -> Result<Vec<Statement>, Error>,
    ) -> Result<Vec<(usize, Clash)>, Error> {
        let mut inserted = self.insert(table, statements(rows)?).await;
        for _ in 0..MAX_INSERT_RETRIES {
            if inserted.as_ref().is_err_and(is_conflict) {
                inserted = self.insert(table, statements(rows)?).await;
            }
        }
        match inserted? {
            Ok(()) => return Ok(Vec::new()),
            Err(clash) if rows.len() == 1 => return Ok(vec![(0, clash)]),
            Err(_) => {}
        }
        let mut refused = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let statements = statements(std::slice::from_ref(row))?;
            if let Err(clash) = self.insert(table, statements).await? {
                refused.push((index, clash));
            }
        }
        Ok(refused)
    }

    /// Reads rows.
    async fn rows(
        &self,
        table: &'static str,
        select: Statement,
    ) -> Result<Vec<QueryResult>, Error> {
        let (database, span) = (self.prepared()?, Span::default());
        let read = || async {
            let (_room, lease) = database.own_work().await?;
            let rows = lease.query_all_raw(select.clone());
            let rows = own_statement(database.engine(), &span, "SELECT", table, rows).await;
            let rows = lease.note(rows)?;
            lease.done();
            Ok(rows)
        };
        again(read).await
    }
}

fn clash(error: &DbErr) -> Option<Clash> {
    match error.sql_err()? {
        SqlErr::UniqueConstraintViolation(_) => Some(Clash::Unique),
        SqlErr::ForeignKeyConstraintViolation(_) => Some(Clash::Reference),
        _ => None,
    }
}

fn refused(cause: &Cause) -> Option<Clash> {
    cause.downcast_ref::<Refused>().map(|Refused(clash)| *clash)
}
