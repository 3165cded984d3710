//! The command line: one file for each subcommand.

mod administration_log;
mod administrator;
mod backup;
mod compare;
mod demo;
mod doctor;
mod error;
mod export;
mod flags;
mod hash;
mod healthcheck;
mod http_client;
mod import;
mod key;
mod legacy;
mod manual;
mod migrate;
mod new_epoch;
mod print;
mod progress;
mod serve;
mod settings;
mod token;
mod verify;
mod version;
mod with_telemetry;

use std::{env, path::PathBuf};

use clap::{CommandFactory, Parser, Subcommand};

use self::{
    error::CliError,
    flags::{DatabaseFlags, Flags, NoFlags, OnDatabase, OnListeners, OnService, ServiceFlags},
};
use crate::config::{Config, FILE_VARIABLE, Layers};

/// The details of the users of a billing system: typed gRPC, and the legacy hashed HTTP call.
#[derive(Debug, Parser)]
#[command(name = "m4-user-details", version, long_version = version::long(), about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The configuration file (TOML) [env: `M4_CONFIG`].
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve gRPC and the legacy call.
    #[command(after_help = "Example: m4-user-details serve --demo")]
    Serve(OnService<serve::Serve>),
    /// Try it: serve demo data from a temporary database, and make the vendor's sample call.
    #[command(after_help = "Example: m4-user-details demo --port 0")]
    Demo(OnListeners<demo::Demo>),
    /// Bring the database's schema up to date.
    #[command(after_help = "Example: m4-user-details migrate --dry-run")]
    Migrate(OnDatabase<migrate::Migrate>),
    /// Check the configuration, the database, keys, certificates and listeners.
    #[command(after_help = "Example: m4-user-details doctor --json")]
    Doctor(OnService<doctor::Doctor>),
    /// Write accounts or the change log to standard output.
    #[command(after_help = "Example: m4-user-details export accounts --format csv")]
    Export(OnDatabase<export::Export>),
    /// Copy the SQLite database into a new file, beside a running service.
    #[command(after_help = "Example: m4-user-details backup m4-backup.db")]
    Backup(OnDatabase<backup::Backup>),
    /// Put a backup in place of the SQLite database. Every service must be stopped.
    #[command(after_help = "Example: m4-user-details restore m4-backup.db")]
    Restore(OnDatabase<backup::Restore>),
    /// Check that the rows match the change log and refer to existing rows.
    #[command(after_help = "Example: m4-user-details verify --json")]
    Verify(OnDatabase<verify::Verify>),
    /// Import accounts and their reference data from CSV files or another database.
    #[command(after_help = "Example: m4-user-details import --mapping mapping.toml --dry-run")]
    Import(OnDatabase<import::Import>),
    /// Compare the rows of CSV files or another database with the stored rows.
    #[command(after_help = "Example: m4-user-details compare --mapping mapping.toml")]
    Compare(OnDatabase<compare::Compare>),
    /// Show the effective configuration, with secrets masked.
    #[command(after_help = "Example: m4-user-details config --config m4.toml")]
    Config(OnService<NoFlags>),
    /// Compute and explain the hash of a legacy call.
    #[command(after_help = "Example: m4-user-details hash --u admin --user-id 5")]
    Hash(hash::Hash),
    /// Read or change the settings of the legacy call.
    #[command(after_help = "Example: m4-user-details settings set allow_get_api=on")]
    Settings(OnDatabase<settings::Settings>),
    /// Create, list and revoke the tokens of services.
    #[command(after_help = "Example: m4-user-details token create --name crm --scope read,update")]
    Token(OnDatabase<token::Token>),
    /// Create, list, revoke and rotate the keys of legacy clients.
    #[command(after_help = "Example: m4-user-details key create --name crm --username admin")]
    Key(OnDatabase<key::Key>),
    /// See which clients make legacy calls, and block addresses and usernames.
    #[command(after_help = "Example: m4-user-details legacy report --json")]
    Legacy(OnDatabase<legacy::Legacy>),
    /// List the changes of settings, tokens, keys and blocks, newest first.
    #[command(after_help = "Example: m4-user-details administration-log --limit 10")]
    AdministrationLog(OnDatabase<administration_log::AdministrationLog>),
    /// Begin a new epoch after a server's own tools have restored the database: older etags, tokens and
    /// change ids are refused.
    #[command(after_help = "Example: m4-user-details new-epoch")]
    NewEpoch(OnDatabase<NoFlags>),
    /// Ask a running service whether it is ready; for containers.
    #[command(after_help = "Example: m4-user-details healthcheck")]
    Healthcheck(OnListeners<NoFlags>),
    /// Write the completions of a shell to standard output.
    #[command(after_help = "Example: m4-user-details completions bash")]
    Completions(manual::Completions),
    /// Write the manual pages into a folder.
    #[command(after_help = "Example: m4-user-details man man1")]
    Man(manual::Man),
}

impl Cli {
    /// Runs the command and returns the exit code: 0 success, 1 runtime failure, 2 invalid
    /// configuration, 3 drift. Invalid usage exits earlier, with 2.
    pub async fn run(self) -> u8 {
        match self.execute().await {
            Ok(()) => 0,
            Err(error) => {
                print::error(&error);
                error.exit_code()
            }
        }
    }

    async fn execute(self) -> Result<(), CliError> {
        let layers = self.layers();
        let config = match (Config::read(&layers), &self.command) {
            (Err(errors), Command::Doctor(doctor)) => return doctor.command.report_errors(&errors),
            (Err(_), Command::Completions(completions)) => return completions.run(Self::command()),
            (Err(_), Command::Man(man)) => return man.run(Self::command()),
            (config, _) => config?,
        };
        match self.command {
            Command::Doctor(doctor) => doctor.command.run(&config).await,
            Command::Serve(_) => self.serve(config).await,
            Command::Demo(demo) => demo.command.run(config).await,
            Command::Migrate(migrate) => migrate.command.run(&config).await,
            Command::Export(export) => export.command.run(&config).await,
            Command::Backup(backup) => backup.command.run(&config),
            Command::Restore(restore) => restore.command.run(&config).await,
            Command::Verify(verify) => verify.command.run(&config).await,
            Command::Config(_) => {
                print::text(&layers.show());
                Ok(())
            }
            Command::Import(import) => import.command.run(&config).await,
            Command::Compare(compare) => compare.command.run(&config).await,
            Command::Hash(hash) => hash.run(&config),
            Command::Settings(settings) => settings.command.run(&config).await,
            Command::Token(token) => token.command.run(&config).await,
            Command::Key(key) => key.command.run(&config).await,
            Command::Legacy(legacy) => legacy.command.run(&config).await,
            Command::AdministrationLog(log) => log.command.run(&config).await,
            Command::NewEpoch(_) => new_epoch::run(&config).await,
            Command::Healthcheck(_) => healthcheck::run(&config).await,
            Command::Completions(completions) => completions.run(Self::command()),
            Command::Man(man) => man.run(Self::command()),
        }
    }

    /// Serves. The configuration is read again with the same flags.
    async fn serve(self, config: Config) -> Result<(), CliError> {
        let Command::Serve(serve) = &self.command else { return Ok(()) };
        serve.command.clone().run(config, move || self.layers()).await
    }

    fn layers(&self) -> Layers {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let file = self.config.clone().or_else(|| variable(FILE_VARIABLE).map(PathBuf::from));
        // The demo prints its own output.
        let is_quiet = matches!(self.command, Command::Demo(_)) && variable("M4_LOG").is_none();
        let quiet = is_quiet.then(|| ("M4_LOG".into(), "warn".into()));
        Layers::new(file.as_deref(), env::vars_os().chain(quiet), self.command.flags())
    }
}

impl Command {
    /// The configuration keys that flags set.
    fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        self.database().into_iter().for_each(|database| database.add_to(&mut flags));
        self.service().into_iter().for_each(|service| service.add_to(&mut flags));
        match self {
            Self::Serve(serve) => flags.extend(serve.command.flags()),
            Self::Demo(demo) => flags.extend(demo.command.flags()),
            _ => {}
        }
        flags
    }

    fn database(&self) -> Option<&DatabaseFlags> {
        match self {
            Self::Serve(OnService { database, .. })
            | Self::Doctor(OnService { database, .. })
            | Self::Config(OnService { database, .. })
            | Self::Migrate(OnDatabase { database, .. })
            | Self::Export(OnDatabase { database, .. })
            | Self::Backup(OnDatabase { database, .. })
            | Self::Restore(OnDatabase { database, .. })
            | Self::Verify(OnDatabase { database, .. })
            | Self::Import(OnDatabase { database, .. })
            | Self::Compare(OnDatabase { database, .. })
            | Self::Settings(OnDatabase { database, .. })
            | Self::Token(OnDatabase { database, .. })
            | Self::Key(OnDatabase { database, .. })
            | Self::Legacy(OnDatabase { database, .. })
            | Self::AdministrationLog(OnDatabase { database, .. })
            | Self::NewEpoch(OnDatabase { database, .. }) => Some(database),
            Self::Demo(_)
            | Self::Hash(_)
            | Self::Healthcheck(_)
            | Self::Completions(_)
            | Self::Man(_) => None,
        }
    }

    fn service(&self) -> Option<&ServiceFlags> {
        match self {
            Self::Serve(OnService { service, .. })
            | Self::Doctor(OnService { service, .. })
            | Self::Config(OnService { service, .. })
            | Self::Demo(OnListeners { service, .. })
            | Self::Healthcheck(OnListeners { service, .. }) => Some(service),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    /// Each subcommand shows an example that the parser accepts.
    #[test]
    fn every_example_is_accepted() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example =
                help.strip_prefix("Example: ").unwrap_or_else(|| panic!("{name}: {help}"));
            let parsed = Cli::try_parse_from(example.split(' '));
            assert!(parsed.is_ok(), "{name}: {}", parsed.unwrap_err());
            assert!(example.starts_with(&format!("m4-user-details {name}")), "{example}");
        }
    }

    /// A flag that a subcommand does not use is refused.
    #[test]
    fn flags_are_accepted_only_where_they_work() {
        let is_accepted = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        for line in [
            "m4-user-details --config m4.toml migrate",
            "m4-user-details settings get --database-url sqlite://m4.db",
            "m4-user-details healthcheck --grpc-listen 127.0.0.1:1",
        ] {
            assert!(is_accepted(line), "{line}");
        }
        for line in [
            "m4-user-details demo --database-url sqlite://m4.db",
            "m4-user-details migrate --grpc-listen 127.0.0.1:1",
            "m4-user-details token list --insecure",
            "m4-user-details hash --u admin --log debug",
        ] {
            assert!(!is_accepted(line), "{line}");
        }
    }

    #[test]
    fn the_variables_in_the_help_are_those_of_the_configuration() {
        let command = Cli::command();
        let mut found = 0;
        for argument in command.get_subcommands().flat_map(clap::Command::get_arguments) {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let Some((_, variable)) = help.split_once("[env: ") else { continue };
            let variable = variable.trim_matches(['.', ']', '`']);
            let is_known = keys().any(|key| key.variable() == variable);
            assert!(is_known || variable == FILE_VARIABLE, "{variable}");
            found += 1;
        }
        assert!(found > 20, "{found}");
    }
}
