//! The last sampled call of each duration bucket, so that a growing bucket leads to a trace.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use opentelemetry::trace::SpanContext;

use super::instruments::CALLS;

/// Labels that identify a series, sorted by name.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// The exemplars of a series by bucket.
pub(super) type Buckets = BTreeMap<usize, Exemplar>;

/// All exemplars, by histogram name and labels of the semantic conventions. At most one per bucket.
static KEPT: Mutex<BTreeMap<(&'static str, Labels), Buckets>> = Mutex::new(BTreeMap::new());

/// A sampled call.
#[derive(Clone, Debug)]
pub(super) struct Exemplar {
    span: SpanContext,
    /// Duration, in seconds.
    value: f64,
    /// End time, in seconds since 1970.
    time: f64,
}

/// Keeps a sampled call that has ended.
pub(super) fn keep(histogram: &'static str, labels: Labels, span: SpanContext, took: Duration) {
    let value = took.as_secs_f64();
    let bucket = CALLS.partition_point(|bound| *bound < value);
    let time = opentelemetry::time::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let exemplar = Exemplar { span, value, time: time.as_secs_f64() };
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.entry((histogram, labels)).or_default().insert(bucket, exemplar);
}

/// The exemplars of a series, by its histogram name and labels in Prometheus.
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
    /// In OpenMetrics text format.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (trace, span) = (self.span.trace_id(), self.span.span_id());
        let (value, time) = (self.value, self.time);
        write!(formatter, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {time:.3}")
    }
}
