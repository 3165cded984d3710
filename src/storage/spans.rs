//! One span for each SQL statement and how long it took, in the names of OpenTelemetry's semantic conventions for databases. They carry
//! neither values nor a driver's text.

use std::time::Instant;

use tracing::{Instrument, Span, field::Empty};

use super::{connect::Engine, failure::Coded};
use crate::{
    telemetry::instruments::{Failure, Instruments, instruments},
    trace,
};

/// Runs a statement in a span: `operation` is its first word, `collection` the table; empty where there is none.
pub(super) async fn statement<T, E: Coded>(
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
pub(super) fn blocking<T, E: Coded>(
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

/// None outside of a call: what the service looks at by itself, every second, would be a trace each time. And none in one that is
/// not sampled: nobody would see it.
fn span(engine: Engine, operation: &'static str, collection: &'static str) -> Span {
    if !trace::span_context(&Span::current()).is_some_and(|call| call.is_sampled()) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: "m4_user_details::sql",
        "sql",
        otel.name = Empty,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = engine.semantic_name(),
        db.operation.name = operation,
        db.collection.name = Empty,
        db.query.summary = Empty,
        db.response.status_code = Empty,
        error.type = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    let mut summary = operation.to_owned();
    if !collection.is_empty() {
        summary = format!("{operation} {collection}");
        span.record("db.collection.name", collection);
    }
    span.record("otel.name", &summary);
    span.record("db.query.summary", summary);
    span
}

fn told<T, E: Coded>(
    span: &Span,
    measured: Option<Measured>,
    result: Result<T, E>,
) -> Result<T, E> {
    let code = result.as_ref().err().map(Coded::code);
    if let Some(code) = &code {
        span.record("otel.status_code", "ERROR");
        span.record("db.response.status_code", code.as_deref());
        span.record("error.type", code.as_deref().unwrap_or("_OTHER"));
    }
    if let Some(measured) = measured {
        measured.end(code.as_ref().map(|code| Failure::Coded(code.as_deref())));
    }
    result
}

/// A statement under way, where that is measured. One that is dropped was given up.
struct Measured {
    instruments: &'static Instruments,
    statement: (&'static str, &'static str, &'static str),
    begun: Instant,
    has_ended: bool,
}

impl Measured {
    fn begin(engine: Engine, operation: &'static str, collection: &'static str) -> Option<Self> {
        let statement = (engine.semantic_name(), operation, collection);
        instruments().map(|instruments| Self {
            instruments,
            statement,
            begun: Instant::now(),
            has_ended: false,
        })
    }

    fn end(mut self, failure: Option<Failure<'_>>) {
        self.has_ended = true;
        self.instruments.statement(self.statement, failure, self.begun.elapsed());
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if !self.has_ended {
            let took = self.begun.elapsed();
            self.instruments.statement(self.statement, Some(Failure::GivenUp), took);
        }
    }
}
