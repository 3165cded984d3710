//! OpenMetrics 1.0 text with exemplars. The Prometheus library writes only its own text format.
//!
//! See the [specification](https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md).

use std::fmt::{self, Write};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars;

/// The media type.
pub(super) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Encodes metric families with their exemplars.
pub(super) fn text(families: &[MetricFamily]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for family in families {
        let (full, kind) = match family.get_field_type() {
            MetricType::COUNTER => (family.name(), "counter"),
            MetricType::GAUGE => (family.name(), "gauge"),
            MetricType::HISTOGRAM => (family.name(), "histogram"),
            // The exporter creates neither type.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        };
        let name = full.strip_suffix("_total").filter(|_| kind == "counter").unwrap_or(full);
        writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {}", escaped(family.help()))?;
        for metric in family.get_metric() {
            let labels = Labels(metric.get_label(), None);
            match kind {
                "counter" => {
                    writeln!(text, "{name}_total{labels} {}", metric.get_counter().get_value())?;
                }
                "gauge" => writeln!(text, "{name}{labels} {}", metric.get_gauge().get_value())?,
                _ => histogram(&mut text, name, metric)?,
            }
        }
    }
    text.push_str("# EOF\n");
    Ok(text)
}

fn histogram(text: &mut String, name: &str, metric: &Metric) -> fmt::Result {
    let (labels, histogram) = (metric.get_label(), metric.get_histogram());
    let exemplars = exemplars::of(name, |own, value| {
        labels.iter().any(|label| label.name() == own && label.value() == value)
    });
    let buckets = histogram.get_bucket().iter();
    let buckets = buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let buckets = buckets.filter(|(bound, _)| bound.is_finite());
    let all = (f64::INFINITY, histogram.get_sample_count());
    for (index, (bound, count)) in buckets.chain([all]).enumerate() {
        write!(text, "{name}_bucket{} {count}", Labels(labels, Some(bound)))?;
        match exemplars.get(&index) {
            Some(exemplar) => writeln!(text, "{exemplar}")?,
            None => writeln!(text)?,
        }
    }
    let labels = Labels(labels, None);
    writeln!(text, "{name}_sum{labels} {}", histogram.get_sample_sum())?;
    writeln!(text, "{name}_count{labels} {}", histogram.get_sample_count())
}

/// The labels of a series, and the upper bound of a bucket.
struct Labels<'a>(&'a [LabelPair], Option<f64>);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(labels, bound) = self;
        if labels.is_empty() && bound.is_none() {
            return Ok(());
        }
        let mut separator = '{';
        for label in *labels {
            write!(formatter, "{separator}{}=\"{}\"", label.name(), escaped(label.value()))?;
            separator = ',';
        }
        match bound {
            Some(bound) if bound.is_finite() => write!(formatter, "{separator}le=\"{bound:?}\"}}"),
            Some(_) => write!(formatter, "{separator}le=\"+Inf\"}}"),
            None => formatter.write_char('}'),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}
