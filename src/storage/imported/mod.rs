//! Rows that an import reads and inserts. New accounts have no entry in the change log; stored
//! accounts are changed by updates only.

mod accounts;
mod claim;
mod copy;
mod named;
mod rights;
mod sequences;

use std::ops::Range;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, SqlErr, Statement};

use self::copy::Copy;
use super::{
    connect::Lease, database::again, failure::is_conflict, query_telemetry::own_statement,
    store::SqlStore,
};
use crate::{
    domain::{error::Error, imported::Clash},
    trace::Span,
};

/// Maximum rows of a reference table per statement: databases limit the number of parameters.
const NAMED_ROWS_PER_INSERT: usize = 500;
/// Retries of a statement that conflicts with another transaction.
const MAX_INSERT_RETRIES: u32 = 3;

/// One statement with the rows of one transaction. A refused row undoes all of them.
enum RowInsert {
    Statement(Statement),
    Copy(Copy),
}

impl RowInsert {
    async fn run(self, lease: &Lease) -> Result<(), DbErr> {
        match self {
            Self::Statement(statement) => lease.execute_raw(statement).await.map(drop),
            Self::Copy(copy) => copy.run(lease).await,
        }
    }
}

impl SqlStore {
    /// Inserts the rows of each range in one transaction. Halves a range with a refused row, until the
    /// row is alone. Returns the refused rows by index.
    async fn insert_all<T: Sync>(
        &self,
        table: &'static str,
        rows: &[T],
        mut ranges: Vec<Range<usize>>,
        insert: impl Fn(&[T]) -> Result<RowInsert, Error>,
    ) -> Result<Vec<(usize, Clash)>, Error> {
        let mut refused = Vec::new();
        ranges.reverse();
        while let Some(range) = ranges.pop() {
            let insert = || insert(&rows[range.clone()]);
            let mut inserted = self.insert(table, insert()?).await;
            for _ in 0..MAX_INSERT_RETRIES {
                if inserted.as_ref().is_err_and(is_conflict) {
                    inserted = self.insert(table, insert()?).await;
                }
            }
            let Err(clash) = inserted? else { continue };
            if range.len() == 1 {
                refused.push((range.start, clash));
                continue;
            }
            let middle = range.start + range.len() / 2;
            ranges.extend([middle..range.end, range.start..middle]);
        }
        Ok(refused)
    }

    async fn insert(
        &self,
        table: &'static str,
        insert: RowInsert,
    ) -> Result<Result<(), Clash>, Error> {
        let (database, span) = (self.prepared()?, Span::default());
        let lease = database.pools().write().await?;
        let insert = async {
            match insert.run(&lease).await {
                Ok(()) => Ok(Ok(())),
                Err(error) => clash(&error).map(Err).ok_or(error),
            }
        };
        let inserted = own_statement(database.engine(), &span, "INSERT", table, insert).await;
        let inserted = lease.note(inserted)?;
        lease.done();
        if let Some(place) = database.place() {
            place.check()?;
        }
        Ok(inserted)
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

/// Ranges of at most `limit` rows and, unless one row has more, `max_bytes`.
fn ranges<T>(
    rows: &[T],
    (limit, max_bytes): (usize, usize),
    bytes: impl Fn(&T) -> usize,
) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut size = 0;
    for (index, row) in rows.iter().enumerate() {
        let bytes = bytes(row);
        match ranges.last_mut() {
            Some(last) if last.len() < limit && size + bytes <= max_bytes => {
                last.end += 1;
                size += bytes;
            }
            _ => {
                ranges.push(index..index + 1);
                size = bytes;
            }
        }
    }
    ranges
}
