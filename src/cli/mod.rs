//! The command line: one file for each subcommand.

mod administration_log;
mod administrator;
mod backup;
mod compare;
mod demo;
mod doctor;
mod error;
mod export;
mod hash;
mod healthcheck;
mod http_client;
mod import;
mod key;
mod legacy;
mod migrate;
mod new_epoch;
mod print;
mod progress;
mod serve;
mod settings;
mod token;
mod verify;
mod with_telemetry;

use std::{env, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use self::error::CliError;
use crate::config::{Config, FILE_VARIABLE, Layers};

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
    /// Try it: serve demo data from a temporary database, and make the vendor's sample call.
    Demo(demo::Demo),
    /// Bring the database's schema up to date.
    Migrate(migrate::Migrate),
    /// Check the configuration, the database, keys, certificates and listeners.
    Doctor(doctor::Doctor),
    /// Write accounts or the change log to standard output.
    Export(export::Export),
    /// Copy the SQLite database into a new file, beside a running service.
    Backup(backup::Backup),
    /// Put a backup in place of the SQLite database. Every service must be stopped.
    Restore(backup::Restore),
    /// Check that the rows match the change log and refer to existing rows.
    Verify(verify::Verify),
    /// Bring accounts and their reference data in, from CSV files or another database.
    Import(import::Import),
    /// Compare the rows of CSV files or another database with the stored rows.
    Compare(compare::Compare),
    /// Show the effective configuration, with secrets masked.
    Config,
    /// Compute and explain the hash of a legacy call.
    Hash(hash::Hash),
    /// Read or change the settings of the legacy call.
    Settings(settings::Settings),
    /// Create, list and revoke the tokens of services.
    Token(token::Token),
    /// Create, list, revoke and rotate the keys of legacy clients.
    Key(key::Key),
    /// See which clients make legacy calls, and block addresses and usernames.
    Legacy(legacy::Legacy),
    /// List the changes of settings, tokens, keys and blocks, newest first.
    AdministrationLog(administration_log::AdministrationLog),
    /// Begin a new epoch after a server's own tools have restored the database: older etags, tokens and
    /// change ids are refused.
    NewEpoch,
    /// Ask a running service whether it is ready; for containers.
    Healthcheck,
}

impl Cli {
    /// Runs the command and returns the exit code: 0 success, 1 runtime failure, 2 invalid
    /// configuration, 3 drift. Invalid usage exits earlier, with 2.
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
        let config = match (Config::read(&layers), &self.command) {
            (Err(errors), Command::Doctor(doctor)) => return doctor.report_errors(&errors),
            (config, _) => config?,
        };
        match self.command {
            Command::Doctor(doctor) => doctor.run(&config).await,
            Command::Serve(serve) => {
                let (overrides, command) = (self.overrides, Command::Serve(serve.clone()));
                serve.run(config, move || overrides.layers(&command)).await
            }
            Command::Demo(demo) => demo.run(config).await,
            Command::Migrate(migrate) => migrate.run(&config).await,
            Command::Export(export) => export.run(&config).await,
            Command::Backup(backup) => backup.run(&config),
            Command::Restore(restore) => restore.run(&config).await,
            Command::Verify(verify) => verify.run(&config).await,
            Command::Config => {
                print::text(&layers.show());
                Ok(())
            }
            Command::Import(import) => import.run(&config).await,
            Command::Compare(compare) => compare.run(&config).await,
            Command::Hash(hash) => hash.run(&config),
            Command::Settings(settings) => settings.run(&config).await,
            Command::Token(token) => token.run(&config).await,
            Command::Key(key) => key.run(&config).await,
            Command::Legacy(legacy) => legacy.run(&config).await,
            Command::AdministrationLog(log) => log.run(&config).await,
            Command::NewEpoch => new_epoch::run(&config).await,
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
