//! Rows that an import reads and inserts. New accounts have no entry in the change log; stored
//! accounts are changed by updates only.

mod accounts;
mod named;
mod rights;
mod sequences;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, SqlErr, Statement};

use super::{database::again, query_telemetry::own_statement, store::SqlStore};
use crate::{
    domain::{
        administration::Administrator,
        error::{Cause, Error},
        imported::Clash,
    },
    trace::Span,
};

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

    /// Inserts rows in one transaction. If a constraint refuses a row, inserts the rows one by one,
    /// and returns the refused rows by index.
    async fn insert_all<T>(
        &self,
        table: &'static str,
        rows: &[T],
        statements: impl Fn(&[T]) -> Result<Vec<Statement>, Error>,
    ) -> Result<Vec<(usize, Clash)>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match self.insert(table, statements(rows)?).await? {
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
