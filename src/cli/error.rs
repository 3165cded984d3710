//! Errors of commands, and their exit codes.

use crate::{
    app::RunError, config::ConfigErrors, domain::error::Error, storage::OpenError,
    telemetry::TelemetryError,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Store(#[from] Error),
    #[error("ended at once by a second signal")]
    Interrupted,
    #[error("{0}")]
    Failed(String),
    #[error("{0} differences between the source and the stored rows")]
    Drift(u64),
}

impl CliError {
    /// 1: runtime failure. 2: invalid usage or configuration. 3: a comparison found differences.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Usage(_)
            | Self::Telemetry(_)
            | Self::Run(RunError::Configuration(_)) => 2,
            // Only another configuration, server or version can help.
            Self::Run(RunError::Database(
                OpenError::Url(_)
                | OpenError::Sqlite(_)
                | OpenError::Unfit(_)
                | OpenError::Refused { .. }
                | OpenError::Newer { .. },
            )) => 2,
            Self::Drift(_) => 3,
            Self::Run(_) | Self::Store(_) | Self::Interrupted | Self::Failed(_) => 1,
        }
    }
}
