//! Exporters that count their exports.

use std::time::Duration;

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};

use super::{
    instruments::{Instruments, instruments},
    otlp::Signal,
};

/// Outcomes of an export.
const OUTCOMES: [&str; 2] = ["ok", "failed"];

/// An exporter of a signal that counts successes and failures.
#[derive(Debug)]
pub(super) struct Counted<E> {
    signal: Signal,
    exporter: E,
}

impl<E> Counted<E> {
    /// Wraps an exporter of a signal.
    pub(super) fn new(signal: Signal, exporter: E) -> Self {
        Self { signal, exporter }
    }

    fn count(&self, sent: OTelSdkResult) -> OTelSdkResult {
        if let Some(instruments) = instruments() {
            let outcome = OUTCOMES[usize::from(sent.is_err())];
            instruments.exports(1, self.signal.name(), outcome);
        }
        sent
    }
}

/// Starts the counters of a signal at 0.
pub(super) fn expect(instruments: &Instruments, signal: Signal) {
    OUTCOMES.iter().for_each(|outcome| instruments.exports(0, signal.name(), outcome));
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.count(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.count(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.count(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
