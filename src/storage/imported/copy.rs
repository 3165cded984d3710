//! `COPY` of PostgreSQL: rows without the parser and planner of `INSERT`.

use std::fmt::Write;

use sea_orm::{
    ConnectionTrait, DbErr, RuntimeErr, Value,
    sqlx::{self, postgres::PgPoolCopyExt},
};

use crate::{domain::error::Error, storage::connect::Lease};

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
    ///
    /// # Errors
    /// [`Error::Internal`] for a value of another type: NULL in its place would lose it.
    pub(super) fn push(&mut self, values: impl Iterator<Item = Value>) -> Result<(), Error> {
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
                Value::BigInt(None)
                | Value::Int(None)
                | Value::Bool(None)
                | Value::ChronoDate(None)
                | Value::String(None) => self.rows.write_str("\\N"),
                _ => return Err(Error::Internal("COPY cannot have this type of value".into())),
            };
        }
        self.rows.push('\n');
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_the_format_needs_it_or_refused() {
        let mut copy = Copy::new("accounts", &["a", "b", "c"]);
        let row = [1_i64.into(), "a\\b\tc\nd\re".into(), Value::BigInt(None)];
        copy.push(row.into_iter()).unwrap();
        assert_eq!(copy.rows, "1\ta\\\\b\\tc\\nd\\re\t\\N\n");
        assert!(copy.push([Value::Double(Some(1.0))].into_iter()).is_err());
    }
}
