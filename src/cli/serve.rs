//! `serve`: the service with its gateway, or a standalone gateway.

use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{error::CliError, with_telemetry::with_telemetry};
use crate::{
    app::{Application, Environment},
    config::{Config, Layers},
    domain::error::chain,
    telemetry::Levels,
};

/// Serve gRPC and the legacy call.
#[derive(Clone, Debug, Args)]
pub(super) struct Serve {
    /// Fill an empty database with the demo data; its secret key is `secret` unless one is configured.
    #[arg(long)]
    demo: bool,
    /// Serve the legacy call only, through the service at `--upstream`: needs no database and no secret key.
    #[arg(long, conflicts_with = "demo")]
    door_only: bool,
    /// Upstream service of the standalone gateway: `http://HOST:PORT` or `https://HOST:PORT`.
    #[arg(long, value_name = "URL", requires = "door_only")]
    upstream: Option<String>,
}

impl Serve {
    /// The configuration keys that this command's flags set.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        self.upstream.iter().map(|url| ("door.upstream", url.clone())).collect()
    }

    /// Serves until a stop signal. `layers` reads the configuration again.
    pub(super) async fn run(
        self,
        config: Config,
        layers: impl Fn() -> Layers + Send + 'static,
    ) -> Result<(), CliError> {
        let upstream = match (self.door_only, &config.upstream) {
            (true, None) => {
                let problem = "--door-only needs --upstream http://HOST:PORT (door.upstream)";
                return Err(CliError::Usage(problem.to_owned()));
            }
            (true, Some(upstream)) => Some(upstream.clone()),
            (false, _) => None,
        };
        with_telemetry(&config, async |levels, stop| {
            follow_hangups(levels, layers)?;
            let application = match &upstream {
                Some(upstream) => Application::door_only(&config, upstream).await?,
                None => Application::service(&config, self.demo, Environment::default()).await?,
            };
            let http = application.http_address().map(|address| address.to_string());
            let grpc = application.grpc_address().map(|address| address.to_string());
            let admin = application.admin_address().map(|address| address.to_string());
            let http = http.ok();
            tracing::info!(grpc, http, admin, "listening");
            let readiness = application.readiness();
            let serving = tokio::spawn(async move {
                readiness.wait().await;
                tracing::info!(grpc, http, admin, "serving");
                tell_manager(NotifyState::Ready);
            });
            let stopping = stop.clone();
            let told = tokio::spawn(async move {
                stopping.cancelled().await;
                tell_manager(NotifyState::Stopping);
            });
            let ended = application.run(stop).await;
            serving.abort();
            told.abort();
            Ok(ended?)
        })
        .await
    }
}

/// Tells systemd the state of a unit of `Type=notify`. Does nothing under other managers.
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Reads the log filter again at each SIGHUP.
fn follow_hangups(
    levels: Levels,
    layers: impl Fn() -> Layers + Send + 'static,
) -> Result<(), CliError> {
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let set = || {
                let filter = Config::log(&layers()).map_err(|error| error.to_string())?;
                levels.set(&filter).map_err(|error| chain(&error))?;
                Ok::<_, String>(filter)
            };
            match set() {
                Ok(filter) => tracing::warn!(filter, "log filter reloaded"),
                Err(error) => tracing::warn!(
                    error,
                    "log filter not reloaded: the current filter stays in use"
                ),
            }
        }
    });
    Ok(())
}

fn listen(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| CliError::Failed(format!("no signals: {error}")))
}
