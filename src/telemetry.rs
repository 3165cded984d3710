//! Logs and metrics. If an OTLP endpoint is set, logs, metrics and traces are exported.

mod counted;
mod error;
mod exemplars;
pub(crate) mod instruments;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod names;
mod open_metrics;
mod otlp;
#[cfg(target_os = "linux")]
mod process;

use std::thread;

use opentelemetry::{global, propagation::TextMapCompositePropagator, trace::TracerProvider};
use opentelemetry_otlp::{
    Protocol::HttpBinary, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::SdkTracerProvider,
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use counted::Counted;
pub use error::TelemetryError;
pub use logs::Levels;
use otlp::{Protocol, Signal};

use crate::trace;

/// The telemetry providers. Call [`Self::stop`] before the process ends.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    meters: Option<SdkMeterProvider>,
}

impl Telemetry {
    /// Logs to standard error with a filter: text on a terminal, else JSON. Exports traces and logs
    /// if an OTLP endpoint is set. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the filter, the endpoint or the protocol is invalid, or telemetry was set up before.
    pub fn start(filter: &str) -> Result<(Self, Levels), TelemetryError> {
        let mut levels = Levels::default();
        let mut parts = vec![logs::written(filter, &mut levels)?];
        let logs = logs::provider()?;
        if let Some(logs) = &logs {
            parts.push(logs::sent(logs, filter, &mut levels)?);
        }
        let traces = traces()?;
        if let Some(traces) = &traces {
            trace::install(traces.tracer_with_scope(otlp::scope()));
        }
        tracing_subscriber::registry()
            .with(parts)
            .try_init()
            .map_err(|error| TelemetryError(error.into()))?;
        global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]));
        Ok((Self { traces, logs, meters: None }, levels))
    }

    /// Starts metrics if they are `scraped` or exported over OTLP. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the exporter cannot be set up.
    pub fn measuring(mut self, scraped: bool) -> Result<Self, TelemetryError> {
        self.meters = metrics::start(scraped)?;
        if let Some(instruments) = instruments::instruments() {
            let sent = [
                (Signal::Traces, self.traces.is_some()),
                (Signal::Metrics, otlp::protocol(Signal::Metrics)?.is_some()),
                (Signal::Logs, self.logs.is_some()),
            ];
            let sent = sent.into_iter().filter(|(_, is_sent)| *is_sent);
            sent.for_each(|(signal, _)| counted::expect(instruments, signal));
        }
        Ok(self)
    }

    /// Flushes telemetry. Waits for receivers at most as long as the exporters do.
    pub fn stop(self) {
        // In parallel, so that the timeouts do not add up.
        thread::scope(|scope| {
            let (traces, logs, meters) = (&self.traces, &self.logs, &self.meters);
            scope.spawn(|| told("traces", traces.as_ref().map(SdkTracerProvider::shutdown)));
            scope.spawn(|| told("logs", logs.as_ref().map(SdkLoggerProvider::shutdown)));
            scope.spawn(|| told("metrics", meters.as_ref().map(SdkMeterProvider::shutdown)));
        });
    }
}

fn told(signal: &str, ended: Option<OTelSdkResult>) {
    if let Some(Err(error)) = ended {
        tracing::warn!(signal, %error, "the final telemetry export failed");
    }
}

fn traces() -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(protocol) = otlp::protocol(Signal::Traces)? else { return Ok(None) };
    let exporter = match protocol {
        Protocol::Grpc => {
            let exporter = SpanExporter::builder().with_tonic();
            match otlp::grpc_tls(Signal::Traces)? {
                Some(tls) => exporter.with_tls_config(tls).build(),
                None => exporter.build(),
            }
        }
        Protocol::Http => SpanExporter::builder()
            .with_http()
            .with_protocol(HttpBinary)
            .with_http_client(otlp::http_client(Signal::Traces)?)
            .build(),
    };
    let exporter = exporter.map_err(|error| TelemetryError(error.into()))?;
    let provider = SdkTracerProvider::builder().with_resource(otlp::resource());
    let provider = provider.with_batch_exporter(Counted::new(Signal::Traces, exporter));
    Ok(Some(provider.build()))
}
