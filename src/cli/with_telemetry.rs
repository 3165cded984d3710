//! Telemetry and signals of the commands that serve.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::CliError;
use crate::{
    config::Config,
    server::descriptors,
    shutdown::{Shutdown, ignore_file_size_signal},
    telemetry::{Levels, Telemetry},
};

/// Timeout for flushing telemetry after a second signal.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a serving command until the first SIGTERM or SIGINT cancels the token. A second signal
/// stops the command at once. Telemetry is always flushed.
pub(super) async fn with_telemetry(
    config: &Config,
    run: impl AsyncFnOnce(Levels, CancellationToken) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let no_signals = |error| CliError::Failed(format!("no signals: {error}"));
    let shutdown = Shutdown::on_signals().map_err(no_signals)?;
    ignore_file_size_signal().map_err(no_signals)?;
    let (telemetry, levels) = Telemetry::start(&config.log)?;
    let telemetry = telemetry.measuring(config.admin_listen.is_some())?;
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of file descriptors could not be raised");
    }
    let outcome = tokio::select! {
        outcome = run(levels, shutdown.graceful.clone()) => outcome,
        () = shutdown.immediate.cancelled() => Err(CliError::Interrupted),
    };
    let flush_timeout = async {
        shutdown.immediate.cancelled().await;
        tokio::time::sleep(FLUSH_TIMEOUT).await;
    };
    tokio::select! {
        _ = tokio::task::spawn_blocking(|| telemetry.stop()) => {}
        () = flush_timeout => {}
    }
    outcome
}
