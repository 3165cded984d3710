//! A span and a duration metric per SQL statement, named by OpenTelemetry's semantic conventions
//! for databases. They contain neither values nor a driver's text.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, trace::SpanKind};
use tokio::time::timeout;

use super::{
    connect::Engine,
    failure::{Coded, unanswered},
};
use crate::{
    domain::error::Error,
    telemetry::{
        instruments::{Failure, Instruments, instruments, is_one, summary},
        names,
    },
    trace::Span,
};

/// Attributes of the database, its name and address, for every statement.
static DATABASE: OnceLock<Vec<KeyValue>> = OnceLock::new();

/// Timeout of the service's own statements.
const OWN_STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Sets the database attributes. A process has one database.
pub(super) fn tell_database(attributes: Vec<KeyValue>) {
    let _ = DATABASE.set(attributes);
}

fn database() -> &'static [KeyValue] {
    DATABASE.get().map_or(&[], Vec::as_slice)
}

/// Runs a statement in a child span of `parent`. `operation` is the statement's first word.
/// `collection` names its tables, separated by spaces, or is empty.
pub(super) async fn statement<T, E: Coded>(
    engine: Engine,
    parent: &Span,
    operation: &'static str,
    collection: &'static str,
    run: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let told = Statement::begin(engine, parent, operation, collection);
    let result = run.await;
    let found_none = result.as_ref().is_err_and(Coded::is_of_pool);
    if let (true, Some(instruments)) = (found_none, instruments()) {
        // On SQLite, reads have their own pool.
        let is_write = engine == Engine::Sqlite && operation != "SELECT";
        instruments.connections.timed_out(1, if is_write { "write" } else { engine.pool() });
    }
    told.end(result)
}

/// Runs a statement of the service itself, with a timeout. No caller's deadline ends it, and a
/// vanished server never answers.
pub(super) async fn own_statement<T, E: Coded + Into<Error>>(
    engine: Engine,
    parent: &Span,
    operation: &'static str,
    collection: &'static str,
    run: impl Future<Output = Result<T, E>>,
) -> Result<T, Error> {
    let statement = statement(engine, parent, operation, collection, run);
    match timeout(OWN_STATEMENT_TIMEOUT, statement).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(unanswered()),
    }
}

/// A running statement. Dropping it records a cancelled statement.
struct Statement {
    names: [&'static str; 3],
    /// `None` without metrics.
    measured: Option<(&'static Instruments, Instant)>,
    /// `None` without a sampled parent. The service polls every second, and each poll would be a
    /// trace.
    span: Option<Span>,
    has_ended: bool,
}

impl Statement {
    fn begin(
        engine: Engine,
        parent: &Span,
        operation: &'static str,
        collection: &'static str,
    ) -> Self {
        let names = [engine.semantic_name(), operation, collection];
        let measured = instruments().map(|instruments| (instruments, Instant::now()));
        let span = parent.is_recording().then(|| span(parent, names));
        Self { names, measured, span, has_ended: false }
    }

    fn end<T, E: Coded>(mut self, result: Result<T, E>) -> Result<T, E> {
        let code = result.as_ref().err().map(Coded::code);
        self.ends(code.as_ref().map(|code| Failure::Coded(code.as_deref())));
        result
    }

    fn ends(&mut self, failure: Option<Failure<'_>>) {
        self.has_ended = true;
        if let Some((instruments, begun)) = self.measured {
            instruments.statements.record(self.names, database(), failure, begun.elapsed());
        }
        let Some(span) = &self.span else { return };
        if let Some(failure) = failure {
            if let Failure::Coded(Some(code)) = failure {
                span.set_attributes(|| {
                    [KeyValue::new(names::DB_RESPONSE_STATUS_CODE, code.to_owned())]
                });
            }
            span.set_error(|| failure.error_type().to_owned().into());
        }
        span.end();
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if !self.has_ended {
            self.ends(Some(Failure::GivenUp));
        }
    }
}

/// The span of a statement, as a child of `parent`.
fn span(parent: &Span, [system, operation, collection]: [&'static str; 3]) -> Span {
    let summary = summary(operation, collection);
    let span = parent.child(SpanKind::Client, || summary.clone());
    span.set_attributes(|| {
        [
            KeyValue::new(names::DB_SYSTEM_NAME, system),
            KeyValue::new(names::DB_OPERATION_NAME, operation),
            KeyValue::new(names::DB_QUERY_SUMMARY, summary),
        ]
    });
    if is_one(collection) {
        span.set_attributes(|| [KeyValue::new(names::DB_COLLECTION_NAME, collection)]);
    }
    span.set_all_attributes(database());
    span
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use sea_orm::DbErr;

    use super::*;
    use crate::storage::failure::breakage;

    #[tokio::test(start_paused = true)]
    async fn a_statement_without_an_answer_ends_and_its_connection_is_closed() {
        let begun = tokio::time::Instant::now();
        let (span, never) = (Span::default(), pending::<Result<(), DbErr>>());
        let ended = own_statement(Engine::Postgres, &span, "DELETE", "requests", never).await;
        let error = ended.unwrap_err();
        assert_eq!(begun.elapsed(), OWN_STATEMENT_TIMEOUT);
        assert!(breakage(&error).is_some(), "{error:?}");
    }
}
