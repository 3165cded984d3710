//! Flags that several subcommands share: overrides of the configuration file and the environment.

use clap::Args;

/// The heading of these flags in the help.
const CONFIGURATION: &str = "Configuration";

/// The flag of the database.
#[derive(Debug, Args)]
pub(super) struct DatabaseFlags {
    /// The database: `sqlite://FILE`, `postgres://…` or `mysql://…` [env: `M4_DATABASE_URL`].
    #[arg(long, global = true, value_name = "URL", help_heading = CONFIGURATION)]
    database_url: Option<String>,
}

/// The flags of the listeners and the log.
#[derive(Debug, Args)]
pub(super) struct ServiceFlags {
    /// Listen address of gRPC [env: `M4_GRPC_LISTEN`].
    #[arg(long, value_name = "ADDRESS", help_heading = CONFIGURATION)]
    grpc_listen: Option<String>,
    /// Listen address of the legacy call [env: `M4_HTTP_LISTEN`].
    #[arg(long, value_name = "ADDRESS", help_heading = CONFIGURATION)]
    http_listen: Option<String>,
    /// Listen address of metrics and probes; `off` disables the listener [env: `M4_ADMIN_LISTEN`].
    #[arg(long, value_name = "ADDRESS", help_heading = CONFIGURATION)]
    admin_listen: Option<String>,
    /// Log filter: a level, or directives such as `m4_user_details=debug,warn` [env: `M4_LOG`].
    #[arg(long, value_name = "FILTER", help_heading = CONFIGURATION)]
    log: Option<String>,
    /// Start without authentication on addresses that other machines can reach [env: `M4_INSECURE`].
    #[arg(long, help_heading = CONFIGURATION)]
    insecure: bool,
}

/// A subcommand that uses the database.
#[derive(Debug, Args)]
pub(super) struct OnDatabase<C: Args> {
    #[command(flatten)]
    pub(super) command: C,
    #[command(flatten)]
    pub(super) database: DatabaseFlags,
}

/// A subcommand of the whole service.
#[derive(Debug, Args)]
pub(super) struct OnService<C: Args> {
    #[command(flatten)]
    pub(super) command: C,
    #[command(flatten)]
    pub(super) database: DatabaseFlags,
    #[command(flatten)]
    pub(super) service: ServiceFlags,
}

/// A subcommand that opens listeners or calls them, without the configured database.
#[derive(Debug, Args)]
pub(super) struct OnListeners<C: Args> {
    #[command(flatten)]
    pub(super) command: C,
    #[command(flatten)]
    pub(super) service: ServiceFlags,
}

/// A subcommand without flags of its own.
#[derive(Debug, Args)]
pub(super) struct NoFlags {}

/// Configuration keys and their values.
pub(super) type Flags = Vec<(&'static str, String)>;

impl DatabaseFlags {
    pub(super) fn add_to(&self, flags: &mut Flags) {
        flags.extend(self.database_url.iter().map(|url| ("database.url", url.clone())));
    }
}

impl ServiceFlags {
    pub(super) fn add_to(&self, flags: &mut Flags) {
        let values = [
            ("grpc.listen", &self.grpc_listen),
            ("http.listen", &self.http_listen),
            ("admin.listen", &self.admin_listen),
            ("log", &self.log),
        ];
        flags.extend(values.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
        if self.insecure {
            flags.push(("insecure", "true".to_owned()));
        }
    }
}
