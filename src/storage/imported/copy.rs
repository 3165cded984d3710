//! `COPY` of PostgreSQL: rows without the parser and planner of `INSERT`.

use std::fmt::Write;

use sea_orm::{
    ConnectionTrait, DbErr, RuntimeErr, Value,
    sqlx::{self, postgres::PgPoolCopyExt},
};

use crate::storage::connect::Lease;

/// Rows in the text format of `COPY`.
pub(super) struct Copy {
    /// `COPY … FROM STDIN`.
    statement: String,
    rows: String,
}

impl Copy {
    pub(super) fn new(table: &str, columns: &[&str]) -> Self {
        let statement = format!("COPY {table} ({}) FROM STDIN", columns.join(", "));
        Self { statement, rows: String::new() }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, values: impl Iterator<Item = Value>) {
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.rows.push('\t');
            }
            // Writing into a string does not fail.
            let _ = match value {
                Value::BigInt(Some(number)) => write!(self.rows, "{number}"),
                Value::Int(Some(number)) => write!(self.rows, "{number}"),
                Value::Bool(Some(flag)) => write!(self.rows, "{flag}"),
                Value::ChronoDate(Some(date)) => write!(self.rows, "{date}"),
                Value::String(Some(text)) => {
                    self.push_text(&text);
                    Ok(())
                }
                _ => self.rows.write_str("\\N"),
            };
        }
        self.rows.push('\n');
    }

    fn push_text(&mut self, text: &str) {
        for part in text.split_inclusive(['\\', '\t', '\n', '\r']) {
            let kept = part.trim_end_matches(['\\', '\t', '\n', '\r']);
            self.rows.push_str(kept);
            match part.as_bytes().get(kept.len()) {
                Some(b'\\') => self.rows.push_str("\\\\"),
                Some(b'\t') => self.rows.push_str("\\t"),
                Some(b'\n') => self.rows.push_str("\\n"),
                Some(b'\r') => self.rows.push_str("\\r"),
                _ => {}
            }
        }
    }

    /// Copies the rows in one transaction.
    pub(super) async fn run(self, lease: &Lease) -> Result<(), DbErr> {
        // A session keeps the plans of foreign key checks. Plans for a small table read the whole
        // table for each check.
        lease.execute_unprepared("DISCARD PLANS").await?;
        let copy = async {
            let pool = lease.get_postgres_connection_pool();
            let mut copy = pool.copy_in_raw(&self.statement).await?;
            copy.send(self.rows.as_bytes()).await?;
            copy.finish().await
        };
        let copied: Result<u64, sqlx::Error> = copy.await;
        copied.map(drop).map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())))
    }
}
