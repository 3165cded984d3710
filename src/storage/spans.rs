//! One span for each SQL statement and how long it took, in the names of OpenTelemetry's semantic conventions for databases. They carry
//! neither values nor a driver's text.

use std::time::Instant;

use tracing::{Instrument, Span, field::Empty};

use super::connect::Engine;
use crate::telemetry::instruments::{Instruments, instruments};

/// Runs a statement in a span: `operation` is its first word, `collection` the table; empty where there is none.
pub(super) async fn statement<T, E>(
    engine: Engine,
    operation: &'static str,
    collection: &'static str,
    run: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let measured = Measured::begin(engine, operation, collection);
    let span = span(engine, operation, collection);
    let result = if span.is_disabled() { run.await } else { run.instrument(span.clone()).await };
    told(&span, measured, result)
}

/// Runs a statement of SeaORM's blocking twin likewise.
pub(super) fn blocking<T, E>(
    engine: Engine,
    operation: &'static str,
    collection: &'static str,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let measured = Measured::begin(engine, operation, collection);
    let span = span(engine, operation, collection);
    let result = span.in_scope(run);
    told(&span, measured, result)
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

fn told<T, E>(span: &Span, measured: Option<Measured>, result: Result<T, E>) -> Result<T, E> {
    if let Some(measured) = measured {
        measured.end(result.is_err());
    }
    if result.is_err() {
        span.record("otel.status_code", "ERROR");
    }
    result
}

/// A statement under way, where that is measured.
struct Measured {
    instruments: &'static Instruments,
    statement: (&'static str, &'static str, &'static str),
    begun: Instant,
}

impl Measured {
    fn begin(engine: Engine, operation: &'static str, collection: &'static str) -> Option<Self> {
        let statement = (engine.semantic_name(), operation, collection);
        instruments().map(|instruments| Self { instruments, statement, begun: Instant::now() })
    }

    fn end(self, failed: bool) {
        self.instruments.statement(self.statement, failed, self.begun.elapsed());
    }
}
