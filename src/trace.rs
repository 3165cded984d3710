//! Spans and W3C trace context: read from request headers, written to request headers, and stored
//! in the change log.
//!
//! Spans come from OpenTelemetry, not from `tracing`. An unsampled span keeps only its ids, and a
//! poll enters and exits no other context.

use std::{borrow::Cow, sync::OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, ContextGuard, KeyValue, SpanId, TraceFlags, TraceId, global,
    propagation::{Extractor, Injector},
    trace::{
        FutureExt, Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt,
        TraceState, Tracer, WithContext,
    },
};
use opentelemetry_sdk::trace::SdkTracer;

use crate::telemetry::names;

/// The headers of a caller's span and baggage.
const TRACEPARENT: &str = "traceparent";
const BAGGAGE: &str = "baggage";
/// W3C trace flags.
const SAMPLED: &str = "01";
const NOT_SAMPLED: &str = "00";

/// Maximum length of a propagated header value, in bytes: the service limits its headers.
const MAX_PROPAGATED_BYTES: usize = 4096;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Records spans with `tracer` from now on.
pub(crate) fn install(tracer: SdkTracer) {
    // `set` fails only in a process that starts twice, which no command does.
    let _ = TRACER.set(tracer);
}

/// A span and its baggage. Without a tracer it is the caller's span, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span(Context);

impl Span {
    /// The caller's span and baggage, from request headers.
    pub(crate) fn of_caller(headers: &HeaderMap) -> Self {
        // Most callers send neither header.
        if !headers.contains_key(TRACEPARENT) && !headers.contains_key(BAGGAGE) {
            return Self::default();
        }
        Self(global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), &Incoming(headers))
        }))
    }

    /// Starts a child span.
    pub(crate) fn child(&self, kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        self.built(|| SpanBuilder::from_name(name()).with_kind(kind))
    }

    /// Starts a child span with a link to another span.
    pub(crate) fn child_linked(
        &self,
        kind: SpanKind,
        name: impl FnOnce() -> Cow<'static, str>,
        to: SpanContext,
    ) -> Self {
        let links = || vec![Link::with_context(to)];
        self.built(|| SpanBuilder::from_name(name()).with_kind(kind).with_links(links()))
    }

    fn built(&self, builder: impl FnOnce() -> SpanBuilder) -> Self {
        let Some(tracer) = TRACER.get() else { return self.clone() };
        let span = tracer.build_with_context(builder(), &self.0);
        if span.span_context().is_sampled() {
            return Self(self.0.with_span(span));
        }
        // An unsampled span needs only its ids.
        Self(self.0.with_remote_span_context(span.span_context().clone()))
    }

    /// Whether the span is recorded: sampled, and not the caller's.
    pub(crate) fn is_recording(&self) -> bool {
        TRACER.get().is_some() && self.0.span().span_context().is_sampled()
    }

    /// The span's context, if the span is recorded.
    pub(crate) fn kept(&self) -> Option<SpanContext> {
        self.is_recording().then(|| self.0.span().span_context().clone())
    }

    /// Sets attributes, which are built only if the span is recorded.
    pub(crate) fn set_attributes<const N: usize>(
        &self,
        attributes: impl FnOnce() -> [KeyValue; N],
    ) {
        if self.is_recording() {
            self.0.span().set_attributes(attributes());
        }
    }

    /// Sets attributes, if the span is recorded.
    pub(crate) fn set_all_attributes(&self, attributes: &[KeyValue]) {
        if self.is_recording() {
            self.0.span().set_attributes(attributes.iter().cloned());
        }
    }

    /// Sets the span's error status and error type.
    pub(crate) fn set_error(&self, error_type: impl FnOnce() -> Cow<'static, str>) {
        if self.is_recording() {
            let span = self.0.span();
            span.set_status(Status::error(""));
            span.set_attribute(KeyValue::new(names::ERROR_TYPE, error_type()));
        }
    }

    /// Adds a link to another span.
    pub(crate) fn add_link(&self, other: &Self) {
        if self.is_recording() {
            self.0.span().add_link(other.0.span().span_context().clone(), Vec::new());
        }
    }

    /// Ends the span.
    pub(crate) fn end(&self) {
        if self.is_recording() {
            self.0.span().end();
        }
    }

    /// Runs a future in the span: exported log lines take their trace from the current context.
    pub(crate) fn instrument<F: Future>(&self, run: F) -> WithContext<F> {
        run.with_context(self.0.clone())
    }

    /// Runs a closure in the span, like [`Self::instrument`].
    pub(crate) fn in_scope<T>(&self, run: impl FnOnce() -> T) -> T {
        let _entered = self.enter();
        run()
    }

    /// Enters the span until the guard is dropped.
    pub(crate) fn enter(&self) -> ContextGuard {
        self.0.clone().attach()
    }

    /// The trace id; `None` without a trace.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        let span = self.0.span();
        let span = span.span_context();
        span.is_valid().then(|| span.trace_id())
    }

    /// The W3C `traceparent` for the change log; empty without a span.
    pub(crate) fn traceparent(&self) -> String {
        let span = self.0.span();
        let span = span.span_context();
        if !span.is_valid() {
            return String::new();
        }
        let flags = if span.is_sampled() { SAMPLED } else { NOT_SAMPLED };
        // Every update needs this value, and `format!` is slower.
        let trace_id = hex::encode(span.trace_id().to_bytes());
        let span_id = hex::encode(span.span_id().to_bytes());
        ["00-", &trace_id, "-", &span_id, "-", flags].concat()
    }

    /// Writes the span and its baggage into request headers.
    pub(crate) fn to_headers(&self, headers: &mut HeaderMap) {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&self.0, &mut Outgoing(headers));
        });
    }
}

/// The trace id in a [`Span::traceparent`].
pub(crate) fn id_in(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

/// The span in a [`Span::traceparent`]; `None` if it is not sampled.
pub(crate) fn span_in(traceparent: &str) -> Option<SpanContext> {
    if !traceparent.ends_with(SAMPLED) {
        return None;
    }
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    Some(SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE))
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok().filter(|value| value.len() <= MAX_PROPAGATED_BYTES)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}
