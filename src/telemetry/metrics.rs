//! Metrics: one provider with two readers, OTLP where an endpoint is set and Prometheus where it is scraped.

use std::sync::OnceLock;

use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{
    MetricExporter, Protocol::HttpBinary, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use super::{
    TelemetryError, instruments,
    otlp::{self, Protocol, Signal},
};

/// What is scraped; none where nothing is measured for it.
static SCRAPED: OnceLock<Registry> = OnceLock::new();

/// Starts to measure, if it is `scraped` or sent. Without, no instrument is there and none costs anything.
pub(super) fn start(scraped: bool) -> Result<Option<SdkMeterProvider>, TelemetryError> {
    let protocol = otlp::protocol(Signal::Metrics)?;
    if !scraped && protocol.is_none() {
        return Ok(None);
    }
    let mut provider = SdkMeterProvider::builder().with_resource(otlp::resource());
    if let Some(protocol) = protocol {
        provider = provider.with_periodic_exporter(exporter(protocol)?);
    }
    if scraped {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| TelemetryError(error.into()))?;
        provider = provider.with_reader(reader);
        // Set before only in a process that started twice, which no command does.
        let _ = SCRAPED.set(registry);
    }
    let provider = provider.build();
    instruments::install(provider.meter_with_scope(super::scope()));
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

/// Everything that was measured, in Prometheus' text format; nothing where nothing is.
///
/// # Errors
/// Where it cannot be written down.
pub(crate) fn text() -> prometheus::Result<String> {
    let families = SCRAPED.get().map(Registry::gather).unwrap_or_default();
    TextEncoder::new().encode_to_string(&families)
}
