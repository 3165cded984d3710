//! Of each bucket of how long calls took, the last call that was sampled: whoever sees the bucket grow finds a trace.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use opentelemetry::trace::SpanContext;

use super::instruments::CALLS;

/// Labels of a series, by which it is told from others, in the order of their names.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// What was kept of a series: by its bucket.
pub(super) type Buckets = BTreeMap<usize, Exemplar>;

/// What was kept: by the name of a histogram, and labels, as the semantic conventions have them. There are as many as buckets at most.
static KEPT: Mutex<BTreeMap<(&'static str, Labels), Buckets>> = Mutex::new(BTreeMap::new());

/// A call.
#[derive(Clone, Debug)]
pub(super) struct Exemplar {
    span: SpanContext,
    /// How long it took, in seconds.
    value: f64,
    /// When it ended, in seconds since 1970.
    time: f64,
}

/// A sampled call has ended.
pub(super) fn keep(histogram: &'static str, labels: Labels, span: SpanContext, took: Duration) {
    let value = took.as_secs_f64();
    let bucket = CALLS.partition_point(|bound| *bound < value);
    let time = opentelemetry::time::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let exemplar = Exemplar { span, value, time: time.as_secs_f64() };
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.entry((histogram, labels)).or_default().insert(bucket, exemplar);
}

/// What was kept of a series, by the name of its histogram and its labels as Prometheus has them.
pub(super) fn of(name: &str, has: impl Fn(&str, &str) -> bool) -> Buckets {
    let of_prometheus = |name: &str| name.replace('.', "_");
    let Some(name) = name.strip_suffix("_seconds") else { return Buckets::new() };
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let is_meant = |(histogram, labels): &(&str, Labels)| {
        let mut labels = labels.iter();
        of_prometheus(histogram) == name
            && labels.all(|(label, value)| has(&of_prometheus(label), value))
    };
    let found = kept.iter().find(|(key, _)| is_meant(key));
    found.map(|(_, exemplars)| exemplars.clone()).unwrap_or_default()
}

impl std::fmt::Display for Exemplar {
    /// As OpenMetrics writes it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (trace, span) = (self.span.trace_id(), self.span.span_id());
        let (value, time) = (self.value, self.time);
        write!(formatter, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {time:.3}")
    }
}
