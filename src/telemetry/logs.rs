//! Logs on standard error, and over OTLP if an endpoint is set.

use std::{io::IsTerminal, time::Duration};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    LogExporter, Protocol::HttpBinary, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    reload,
};

use super::{
    counted::Counted,
    error::TelemetryError,
    otlp::{self, Protocol, Signal},
};

/// A boxed `tracing` layer.
pub(super) type Part = Box<dyn Layer<Registry> + Send + Sync>;

/// The log filters. They can be replaced at run time.
#[derive(Debug, Default)]
pub struct Levels(Vec<reload::Handle<EnvFilter, Registry>>);

impl Levels {
    /// Replaces the log filters.
    ///
    /// # Errors
    /// If the filter is invalid.
    pub fn set(&self, filter: &str) -> Result<(), TelemetryError> {
        for part in &self.0 {
            part.reload(parsed(filter)?).map_err(|error| TelemetryError(error.into()))?;
        }
        Ok(())
    }
}

/// A duration for a log line, rounded to microseconds.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The layer that writes to standard error.
pub(super) fn written(filter: &str, levels: &mut Levels) -> Result<Part, TelemetryError> {
    // At finer levels, libraries may log the data they send and receive, including secrets.
    let own = |metadata: &Metadata<'_>| is_own(metadata) || *metadata.level() <= Level::INFO;
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        filtered(logs, filter, own, levels)
    } else {
        let logs = logs.json().with_current_span(false).with_span_list(false);
        filtered(logs, filter, own, levels)
    }
}

/// Whether the event or span comes from this program, not from a library.
fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("m4_user_details")
}

/// The OTLP layer, without library events: exporting would cause more of them.
pub(super) fn sent(
    provider: &SdkLoggerProvider,
    filter: &str,
    levels: &mut Levels,
) -> Result<Part, TelemetryError> {
    filtered(OpenTelemetryTracingBridge::new(provider), filter, is_own, levels)
}

/// Adds the filters. Only events pass: logs need no spans.
fn filtered(
    logs: impl Layer<Registry> + Send + Sync,
    filter: &str,
    own: impl Fn(&Metadata<'_>) -> bool + Send + Sync + 'static,
    levels: &mut Levels,
) -> Result<Part, TelemetryError> {
    let (filter, handle) = reload::Layer::new(parsed(filter)?);
    levels.0.push(handle);
    let own = filter_fn(move |metadata| metadata.is_event() && own(metadata));
    // Without a level hint this filter hides the other's: all trace events would be evaluated.
    let filter = filter.and(own.with_max_level_hint(LevelFilter::TRACE));
    Ok(logs.with_filter(filter).boxed())
}

fn parsed(filter: &str) -> Result<EnvFilter, TelemetryError> {
    // Migrations log each step twice.
    EnvFilter::try_new(format!("sea_orm_migration=warn,{filter}"))
        .map_err(|error| TelemetryError(error.into()))
}

/// The OTLP log provider; `None` without an endpoint.
pub(super) fn provider() -> Result<Option<SdkLoggerProvider>, TelemetryError> {
    let Some(protocol) = otlp::protocol(Signal::Logs)? else { return Ok(None) };
    let exporter = match protocol {
        Protocol::Grpc => {
            let exporter = LogExporter::builder().with_tonic();
            match otlp::grpc_tls(Signal::Logs)? {
                Some(tls) => exporter.with_tls_config(tls).build(),
                None => exporter.build(),
            }
        }
        Protocol::Http => LogExporter::builder()
            .with_http()
            .with_protocol(HttpBinary)
            .with_http_client(otlp::http_client(Signal::Logs)?)
            .build(),
    };
    let exporter = exporter.map_err(|error| TelemetryError(error.into()))?;
    let provider = SdkLoggerProvider::builder().with_resource(otlp::resource());
    let provider = provider.with_batch_exporter(Counted::new(Signal::Logs, exporter));
    Ok(Some(provider.build()))
}
