//! Errors of the telemetry setup.

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("telemetry cannot be set up")]
pub struct TelemetryError(#[source] pub(super) Box<dyn std::error::Error + Send + Sync>);
