//! Spans, and traces across the edges, as W3C has them: in with a request's headers, out with another's, and kept in the change
//! log.
//!
//! Spans are OpenTelemetry's own and none of `tracing`'s: of a call that is not sampled nothing is kept but its ids, and nothing
//! is entered and left at every poll but they.

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

/// The headers in which a caller tells its span, and what goes with its trace.
const TRACEPARENT: &str = "traceparent";
const BAGGAGE: &str = "baggage";
/// The flags of a span as W3C writes them.
const SAMPLED: &str = "01";
const NOT_SAMPLED: &str = "00";

/// How long what goes with a trace may be, in bytes: to the service it goes on in headers, of which there is a bound.
const LONGEST: usize = 4096;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Has spans kept from now on.
pub(crate) fn install(tracer: SdkTracer) {
    // Set before only in a process that started twice, which no command does.
    let _ = TRACER.set(tracer);
}

/// A span, and what goes with its trace. Where no spans are kept it is the caller's, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span(Context);

impl Span {
    /// The span of the call under way; none outside of one.
    pub(crate) fn current() -> Self {
        Self(Context::current())
    }

    /// The same, where it is kept.
    pub(crate) fn current_kept() -> Option<Self> {
        TRACER.get()?;
        Context::map_current(|context| {
            context.span().span_context().is_sampled().then(|| Self(context.clone()))
        })
    }

    /// The span of the one who sent a request with these headers, and the baggage in them.
    pub(crate) fn of_caller(headers: &HeaderMap) -> Self {
        // Most callers have neither.
        if !headers.contains_key(TRACEPARENT) && !headers.contains_key(BAGGAGE) {
            return Self::default();
        }
        Self(global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::new(), &Incoming(headers))
        }))
    }

    /// A span below this one.
    pub(crate) fn child(&self, kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        self.built(|| SpanBuilder::from_name(name()).with_kind(kind))
    }

    /// A span below this one that links to another one.
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
        // Of one that is not sampled its ids are enough.
        Self(self.0.with_remote_span_context(span.span_context().clone()))
    }

    /// Whether it is kept, and its attributes with it: it is sampled, and not the caller's.
    pub(crate) fn is_recording(&self) -> bool {
        TRACER.get().is_some() && self.0.span().span_context().is_sampled()
    }

    /// Its ids, where it is kept.
    pub(crate) fn kept(&self) -> Option<SpanContext> {
        self.is_recording().then(|| self.0.span().span_context().clone())
    }

    /// Tells attributes of it, where it is kept.
    pub(crate) fn set_attributes<const N: usize>(
        &self,
        attributes: impl FnOnce() -> [KeyValue; N],
    ) {
        if self.is_recording() {
            self.0.span().set_attributes(attributes());
        }
    }

    /// Tells attributes of it that are there already, where it is kept.
    pub(crate) fn set_all_attributes(&self, attributes: &[KeyValue]) {
        if self.is_recording() {
            self.0.span().set_attributes(attributes.iter().cloned());
        }
    }

    /// Tells that what it is of has failed, and how.
    pub(crate) fn set_error(&self, error_type: impl FnOnce() -> Cow<'static, str>) {
        if self.is_recording() {
            let span = self.0.span();
            span.set_status(Status::error(""));
            span.set_attribute(KeyValue::new(names::ERROR_TYPE, error_type()));
        }
    }

    /// Tells that another one has to do with it.
    pub(crate) fn add_link(&self, other: &Self) {
        if self.is_recording() {
            self.0.span().add_link(other.0.span().span_context().clone(), Vec::new());
        }
    }

    /// What it is of has ended.
    pub(crate) fn end(&self) {
        if self.is_recording() {
            self.0.span().end();
        }
    }

    /// Runs what belongs to it.
    pub(crate) fn instrument<F: Future>(&self, run: F) -> WithContext<F> {
        run.with_context(self.0.clone())
    }

    /// Runs what belongs to it and waits for nobody.
    pub(crate) fn in_scope<T>(&self, run: impl FnOnce() -> T) -> T {
        let _entered = self.enter();
        run()
    }

    /// What comes until the guard is dropped belongs to it.
    pub(crate) fn enter(&self) -> ContextGuard {
        self.0.clone().attach()
    }

    /// The id of its trace; none where it is in none.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        let span = self.0.span();
        let span = span.span_context();
        span.is_valid().then(|| span.trace_id())
    }

    /// It as W3C writes it, for the change log; empty where it is none.
    pub(crate) fn traceparent(&self) -> String {
        let span = self.0.span();
        let span = span.span_context();
        if !span.is_valid() {
            return String::new();
        }
        let flags = if span.is_sampled() { SAMPLED } else { NOT_SAMPLED };
        // For each update, for which formatting takes long.
        let trace_id = hex::encode(span.trace_id().to_bytes());
        let span_id = hex::encode(span.span_id().to_bytes());
        ["00-", &trace_id, "-", &span_id, "-", flags].concat()
    }

    /// Tells it, and what goes with its trace, to the one who gets a request.
    pub(crate) fn to_headers(&self, headers: &mut HeaderMap) {
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&self.0, &mut Outgoing(headers));
        });
    }
}

/// The id of the trace in what [`Span::traceparent`] has told.
pub(crate) fn id_in(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

/// The span in what [`Span::traceparent`] has told; none where that is not sampled.
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
        self.0.get(key)?.to_str().ok().filter(|value| value.len() <= LONGEST)
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
