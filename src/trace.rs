//! Traces across the edges, as W3C has them: in with a request's headers, out with another's, and kept in the change log.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId, global,
    propagation::{Extractor, Injector},
    trace::{SpanContext, TraceContextExt, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::domain::acting::Acting;

/// The header in which a caller tells its span.
const TRACEPARENT: &str = "traceparent";
/// The flags of a span as W3C writes them.
const SAMPLED: &str = "01";
const NOT_SAMPLED: &str = "00";

/// How long what goes with a trace may be, in bytes: to the service it goes on in headers, of which there is a bound.
const LONGEST: usize = 4096;

/// What a request's headers say of its trace, and the baggage in them.
pub(crate) fn from_headers(headers: &HeaderMap) -> Context {
    global::get_text_map_propagator(|propagator| propagator.extract(&Incoming(headers)))
}

/// Tells the one who gets a request of a span, or of the trace in which it would be if spans were kept here.
pub(crate) fn to_headers(span: &Span, parent: &Context, headers: &mut HeaderMap) {
    let own = span.context();
    let context = if own.span().span_context().is_valid() { &own } else { parent };
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(context, &mut Outgoing(headers));
    });
}

/// The id of the trace of a span; none where spans are not kept.
pub(crate) fn id(span: &Span) -> Option<String> {
    let context = span_context(span)?;
    Some(context.trace_id().to_string())
}

/// The same, or where spans are not kept that of the trace that its caller has told.
pub(crate) fn id_within(span: &Span, parent: &Context) -> Option<String> {
    let told = || {
        let parent = parent.span().span_context().clone();
        parent.is_valid().then(|| parent.trace_id().to_string())
    };
    id(span).or_else(told)
}

/// A span as W3C writes it; none where spans are not kept.
pub(crate) fn span_context(span: &Span) -> Option<SpanContext> {
    let context = span.context().span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The span under way as the change log keeps it. Where spans are not kept it is the caller's; empty where it has none.
pub(crate) fn parent_here() -> String {
    match span_context(&Span::current()) {
        Some(own) => traceparent(&own),
        None => Acting::current().traceparent().unwrap_or_default().to_owned(),
    }
}

/// A span as W3C writes it.
fn traceparent(span: &SpanContext) -> String {
    let flags = if span.is_sampled() { SAMPLED } else { NOT_SAMPLED };
    format!("00-{}-{}-{flags}", span.trace_id(), span.span_id())
}

/// The caller's span in a request's headers as W3C writes it; none where it has none.
pub(crate) fn parent_in(headers: &HeaderMap) -> Option<String> {
    // Most callers have none.
    headers.contains_key(TRACEPARENT).then(|| from_headers(headers)).and_then(|parent| {
        let parent = parent.span().span_context().clone();
        parent.is_valid().then(|| traceparent(&parent))
    })
}

/// Whether the span in what [`parent_here`] has told is sampled.
pub(crate) fn is_sampled(traceparent: &str) -> bool {
    traceparent.ends_with(SAMPLED)
}

/// The id of the trace in what [`parent_here`] has told.
pub(crate) fn id_in(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

/// The span in what [`parent_here`] has told; none where that is not sampled.
pub(crate) fn span_in(traceparent: &str) -> Option<SpanContext> {
    if !is_sampled(traceparent) {
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
