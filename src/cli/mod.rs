//! The command line: one file for each subcommand.

mod demo;
mod hash;
mod healthcheck;
mod http_client;
mod print;
mod serve;
mod settings;
mod token;

use std::{env, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{
    app::RunError,
    config::{Config, ConfigErrors, FILE_VARIABLE, Layers},
    domain::error::Error,
    server::descriptors,
    shutdown::{Shutdown, ignore_file_size_signal},
    storage::{OpenError, migrate},
    telemetry::{Levels, Telemetry, TelemetryError},
};

/// Timeout for flushing telemetry after a second signal.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The details of the users of a billing system: typed gRPC, and the legacy hashed HTTP call.
#[derive(Debug, Parser)]
#[command(name = "m4-user-details", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    overrides: Overrides,
}

/// Overrides of the configuration file and the environment.
#[derive(Debug, Args)]
struct Overrides {
    /// The configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database: `sqlite://FILE`, `postgres://…` or `mysql://…`.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Listen address of gRPC.
    #[arg(long, global = true, value_name = "ADDRESS")]
    grpc_listen: Option<String>,
    /// Listen address of the legacy call.
    #[arg(long, global = true, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Listen address of metrics and probes; `off` disables the listener.
    #[arg(long, global = true, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Log filter: a level, or directives such as `m4_user_details=debug,warn`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// Start without authentication on addresses that other machines can reach.
    #[arg(long, global = true)]
    insecure: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve gRPC and the legacy call.
    Serve(serve::Serve),
    /// Try it: a temporary database with demo data, both doors, and the vendor's sample call.
    Demo(demo::Demo),
    /// Bring the database's schema up to date.
    Migrate {
        /// Fill a database that has no account with the demo data.
        #[arg(long)]
        demo: bool,
    },
    /// Show the effective configuration, with secrets masked.
    Config,
    /// Compute and explain the hash of a legacy call.
    Hash(hash::Hash),
    /// Read or change the switches of the legacy call.
    Settings(settings::Settings),
    /// Make, list and revoke the tokens of services.
    Token(token::Token),
    /// Ask a running service whether it is ready; for containers.
    Healthcheck,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
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
}

impl CliError {
    /// 1: runtime failure. 2: invalid usage or configuration.
    fn exit_code(&self) -> u8 {
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
                | OpenError::Newer { .. },
            )) => 2,
            Self::Run(_) | Self::Store(_) | Self::Interrupted | Self::Failed(_) => 1,
        }
    }
}

impl Cli {
    /// Runs the command and returns the exit code: 0 success, 1 runtime failure, 2 invalid
    /// configuration. Invalid usage exits earlier, with 2.
    pub async fn run(self) -> u8 {
        match self.command().await {
            Ok(()) => 0,
            Err(error) => {
                print::error(&error);
                error.exit_code()
            }
        }
    }

    async fn command(self) -> Result<(), CliError> {
        let layers = self.overrides.layers(&self.command);
        let config = Config::read(&layers)?;
        match self.command {
            Command::Serve(serve) => {
                let (overrides, command) = (self.overrides, Command::Serve(serve.clone()));
                serve.run(config, move || overrides.layers(&command)).await
            }
            Command::Demo(demo) => demo.run(config).await,
            Command::Migrate { demo } => {
                migrate(&config.database, demo).await.map_err(|error| CliError::Run(error.into()))
            }
            Command::Config => {
                print::text(&layers.show());
                Ok(())
            }
            Command::Hash(hash) => hash.run(&config),
            Command::Settings(settings) => settings.run(&config).await,
            Command::Token(token) => token.run(&config).await,
            Command::Healthcheck => healthcheck::run(&config).await,
        }
    }
}

impl Overrides {
    fn layers(&self, command: &Command) -> Layers {
        let mut flags: Vec<(&'static str, String)> = [
            ("database.url", &self.database_url),
            ("grpc.listen", &self.grpc_listen),
            ("http.listen", &self.http_listen),
            ("admin.listen", &self.admin_listen),
            ("log", &self.log),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)))
        .collect();
        if self.insecure {
            flags.push(("insecure", "true".to_owned()));
        }
        match command {
            Command::Serve(serve) => flags.extend(serve.flags()),
            Command::Demo(demo) => flags.extend(demo.flags()),
            _ => {}
        }
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let file = self.config.clone().or_else(|| variable(FILE_VARIABLE).map(PathBuf::from));
        // The demo prints its own output.
        let is_quiet = matches!(command, Command::Demo(_)) && variable("M4_LOG").is_none();
        let quiet = is_quiet.then(|| ("M4_LOG".into(), "warn".into()));
        Layers::new(file.as_deref(), env::vars_os().chain(quiet), flags)
    }
}

/// Runs a serving command until the first SIGTERM or SIGINT cancels the token. A second signal
/// stops the command at once. Telemetry is always flushed.
async fn with_telemetry(
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
