//! One span for each SQL statement, in the names of OpenTelemetry's semantic conventions for databases. They carry
//! neither values nor a driver's text.

use tracing::{Instrument, Span, field::Empty};

use super::connect::Engine;

/// Runs a statement in a span: `operation` is its first word, `collection` the table; empty where there is none.
pub(super) async fn statement<T, E>(
    engine: Engine,
    operation: &'static str,
    collection: &'static str,
    run: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let span = span(engine, operation, collection);
    if span.is_disabled() {
        return run.await;
    }
    let result = run.instrument(span.clone()).await;
    told(&span, result)
}

/// Runs a statement of SeaORM's blocking twin likewise.
pub(super) fn blocking<T, E>(
    engine: Engine,
    operation: &'static str,
    collection: &'static str,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let span = span(engine, operation, collection);
    let result = span.in_scope(run);
    told(&span, result)
}

fn span(engine: Engine, operation: &'static str, collection: &'static str) -> Span {
    let span = tracing::debug_span!(
        target: "m4_user_details::sql",
        "sql",
        otel.name = Empty,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = engine.semantic_name(),
        db.operation.name = operation,
        db.collection.name = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    if collection.is_empty() {
        span.record("otel.name", operation);
    } else {
        span.record("otel.name", format!("{operation} {collection}"));
        span.record("db.collection.name", collection);
    }
    span
}

fn told<T, E>(span: &Span, result: Result<T, E>) -> Result<T, E> {
    if result.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    result
}
