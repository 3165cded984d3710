//! Logs; metrics; and traces over OTLP where an endpoint is set.

pub(crate) mod instruments;
pub(crate) mod metrics;
pub(crate) mod names;
mod otlp;

use std::io::IsTerminal;

use opentelemetry::{global, trace::TracerProvider};
use opentelemetry_otlp::{Protocol::HttpBinary, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    metrics::SdkMeterProvider, propagation::TraceContextPropagator, trace::SdkTracerProvider,
};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use otlp::{Protocol, Signal};

/// The name under which all is sent, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE_NAME: &str = "m4-user-details";

/// What must be flushed before the process ends.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    meters: Option<SdkMeterProvider>,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("telemetry cannot be set up")]
pub struct TelemetryError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Telemetry {
    /// Logs to standard error what `filter` lets through: text on a terminal, else JSON. Traces are sent where
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the filter or the endpoint cannot be read, or telemetry was set up before.
    pub fn start(filter: &str) -> Result<Self, TelemetryError> {
        // Migrations tell of each step twice.
        let filter = EnvFilter::try_new(format!("sea_orm_migration=warn,{filter}"))
            .map_err(|error| TelemetryError(error.into()))?;
        // Libraries may tell at finer levels what they send and receive: secrets among it.
        let own = filter_fn(|metadata| {
            metadata.target().starts_with("m4_user_details") || *metadata.level() <= Level::INFO
        });
        // Without a hint of its own it would hide the other's, and every trace point of every library would be looked at.
        let filter = filter.and(own.with_max_level_hint(LevelFilter::TRACE));
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let logs: Box<dyn Layer<Registry> + Send + Sync> = if std::io::stderr().is_terminal() {
            logs.with_filter(filter).boxed()
        } else {
            logs.json().with_current_span(false).with_span_list(false).with_filter(filter).boxed()
        };
        let provider = provider()?;
        let traces = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(SERVICE_NAME))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(Targets::new().with_target("m4_user_details", Level::DEBUG))
        });
        tracing_subscriber::registry()
            .with(logs)
            .with(traces)
            .try_init()
            .map_err(|error| TelemetryError(error.into()))?;
        global::set_text_map_propagator(TraceContextPropagator::new());
        Ok(Self { provider, meters: None })
    }

    /// Measures, too, where that is `scraped` or sent over OTLP. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the endpoint cannot be read.
    pub fn measuring(mut self, scraped: bool) -> Result<Self, TelemetryError> {
        self.meters = metrics::start(scraped)?;
        Ok(self)
    }

    /// Sends what has not been sent yet. Waits for a receiver at most as long as the exporter does.
    pub fn stop(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
        if let Some(meters) = self.meters
            && let Err(error) = meters.shutdown()
        {
            tracing::warn!(%error, "the last metrics could not be sent");
        }
    }
}

fn provider() -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(protocol) = otlp::protocol(Signal::Traces)? else { return Ok(None) };
    let exporter = match protocol {
        Protocol::Grpc => SpanExporter::builder().with_tonic().build(),
        Protocol::Http => SpanExporter::builder()
            .with_http()
            .with_protocol(HttpBinary)
            .with_http_client(otlp::http_client()?)
            .build(),
    };
    let exporter = exporter.map_err(|error| TelemetryError(error.into()))?;
    let provider =
        SdkTracerProvider::builder().with_resource(otlp::resource()).with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}
