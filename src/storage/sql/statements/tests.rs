use std::sync::Mutex;

use sea_orm::FromQueryResult;

use super::*;
use crate::storage::{
    failure::is_conflict,
    sql::{sqlite_row::FromSqliteRow, stored::FromRow},
    unknown::Unreadable,
};

/// A connection that records statements. A statement writes as many rows as its text says.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Executor for Recorder {
    async fn execute(&self, statement: Statement) -> Result<u64, DbErr> {
        let rows = statement.sql.parse().unwrap();
        self.0.lock().unwrap().push(statement.sql);
        Ok(rows)
    }

    async fn execute_unprepared(&self, _: &str) -> Result<(), DbErr> {
        unreachable!()
    }

    async fn rows<T>(&self, _: Statement) -> Result<Vec<T>, DbErr>
    where
        T: FromQueryResult + FromSqliteRow + Send,
    {
        unreachable!()
    }

    async fn read<T>(&self, _: Statement) -> Result<Vec<Result<T, Unreadable>>, DbErr>
    where
        T: FromRow<Row: FromSqliteRow, Place: Send> + Send,
    {
        unreachable!()
    }
}

/// The error of write statements, and the statements that ran. Each statement expects the first
/// number of rows and writes the second.
async fn written(rows: &[(u64, u64)]) -> (Option<Error>, Vec<String>) {
    let engine = Engine::MySql;
    let write = |(expected, written): &(u64, u64)| Write {
        operation: "UPDATE",
        table: "accounts",
        statement: Statement::from_string(backend(engine), written.to_string()),
        rows: *expected,
    };
    let (connection, span) = (Recorder::default(), Span::default());
    let statements = Statements { engine, span: &span, connection: &connection };
    let error = statements.write(rows.iter().map(write).collect()).await.err();
    (error, connection.0.into_inner().unwrap())
}

/// Without its transaction, the next statement would be stored on its own.
#[tokio::test]
async fn no_statement_runs_after_one_that_has_written_other_rows() {
    let (error, ran) = written(&[(2, 2), (1, 1), (3, 3)]).await;
    assert!(error.is_none());
    assert_eq!(ran, ["2", "1", "3"]);
    // The sum is right.
    for (rows, expected) in [([(1, 0), (1, 2)], ["0"]), ([(1, 2), (1, 0)], ["2"])] {
        let (error, ran) = written(&rows).await;
        assert!(error.as_ref().is_some_and(is_conflict), "{error:?}");
        assert_eq!(ran, expected);
    }
}
