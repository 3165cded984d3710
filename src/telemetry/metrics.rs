//! Metrics: one provider with two readers, OTLP if an endpoint is set, and Prometheus if scraped.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{
    MetricExporter, Protocol::HttpBinary, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::{
    counted::Counted,
    error::TelemetryError,
    exemplars, instruments, open_metrics,
    otlp::{self, Protocol, Signal},
};

use crate::trace::Span;

/// The Prometheus registry, if metrics are scraped.
static SCRAPED: OnceLock<Registry> = OnceLock::new();

/// Starts metrics if they are `scraped` or exported. Otherwise no instrument exists or costs time.
pub(super) fn start(scraped: bool) -> Result<Option<SdkMeterProvider>, TelemetryError> {
    let protocol = otlp::protocol(Signal::Metrics)?;
    if !scraped && protocol.is_none() {
        return Ok(None);
    }
    let mut provider = SdkMeterProvider::builder().with_resource(otlp::resource());
    if let Some(protocol) = protocol {
        let exporter = Counted::new(Signal::Metrics, exporter(protocol)?);
        provider = provider.with_periodic_exporter(exporter);
    }
    if scraped {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| TelemetryError(error.into()))?;
        provider = provider.with_reader(reader);
        // `set` fails only in a process that starts twice, which no command does.
        let _ = SCRAPED.set(registry);
    }
    let provider = provider.build();
    let meter = provider.meter_with_scope(otlp::scope());
    #[cfg(target_os = "linux")]
    super::process::observe(&meter);
    instruments::install(meter);
    Ok(Some(provider))
}

fn exporter(protocol: Protocol) -> Result<MetricExporter, TelemetryError> {
    let builder = MetricExporter::builder();
    let exporter = match protocol {
        Protocol::Grpc => {
            let exporter = builder.with_tonic();
            match otlp::grpc_tls(Signal::Metrics)? {
                Some(tls) => exporter.with_tls_config(tls).build(),
                None => exporter.build(),
            }
        }
        Protocol::Http => builder
            .with_http()
            .with_protocol(HttpBinary)
            .with_http_client(otlp::http_client(Signal::Metrics)?)
            .build(),
    };
    exporter.map_err(|error| TelemetryError(error.into()))
}

/// A scrape format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format.
    Prometheus,
    /// OpenMetrics, with exemplars.
    OpenMetrics,
}

impl Format {
    /// Selects the scrape format from the `Accept` header.
    pub(crate) fn accepted(accept: Option<&str>) -> Self {
        // Prometheus lists OpenMetrics first if it accepts OpenMetrics at all.
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus::TEXT_FORMAT,
            Self::OpenMetrics => open_metrics::TYPE,
        }
    }
}

/// All metrics; empty if metrics are not scraped.
///
/// # Errors
/// If encoding fails.
pub(crate) fn text(format: Format) -> prometheus::Result<String> {
    let families = SCRAPED.get().map(Registry::gather).unwrap_or_default();
    match format {
        Format::Prometheus => TextEncoder::new().encode_to_string(&families),
        Format::OpenMetrics => {
            open_metrics::text(&families).map_err(|error| prometheus::Error::Msg(error.to_string()))
        }
    }
}

/// Keeps an ended call as an exemplar, if its span is recorded. `labels` identify the series.
pub(crate) fn exemplar(
    histogram: &'static str,
    span: &Span,
    took: Duration,
    labels: impl FnOnce() -> exemplars::Labels,
) {
    if let (Some(span), Some(_)) = (span.kept(), SCRAPED.get()) {
        exemplars::keep(histogram, labels(), span, took);
    }
}
