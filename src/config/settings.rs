//! All keys: those outside sections, and the sections.

use tracing_subscriber::EnvFilter;

use super::{
    admin::Admin,
    api::Api,
    change_log::ChangeLog,
    connections::Connections,
    database::Database,
    door::Door,
    grpc::Grpc,
    http::Http,
    jwt::Jwt,
    section::{Key, section},
    value::{Number, Parse},
};

section! {
    /// The configuration as the layers give it.
    Settings("") {
        /// Deadline of a call, in seconds.
        deadline_seconds: Number<1, 300> = "10",
        /// Maximum number of calls in flight. Further calls are refused.
        max_in_flight: Number<1, 100_000> = "1024",
        /// Memory for messages and responses, in bytes. Calls beyond it are refused, small calls
        /// last.
        message_memory: Number<{ 16 << 20 }, { 16 << 30 }> = "67108864",
        /// Maximum time, in milliseconds, that updates wait to share a transaction while another
        /// transaction runs. At most 100; SQLite ignores it.
        gather_milliseconds: Number<0, 100> = "2",
        /// Drain deadline: time for calls in flight after SIGTERM, in seconds.
        drain_seconds: Number<1, 3600> = "20",
        /// Maximum age of the settings that legacy calls cache, in milliseconds. At most 1000; 0
        /// disables the cache.
        settings_cache_milliseconds: Number<0, 1000> = "1000",
        /// Interval of heartbeats on idle watches, in seconds.
        watch_heartbeat_seconds: Number<1, 3600> = "10",
        /// Start without authentication on addresses that other machines can reach.
        insecure: bool = "false",
        /// Log filter: a level, or directives such as `m4_user_details=debug,warn`. SIGHUP reads it
        /// again.
        log: LogFilter = "info",
        ..database: Database,
        ..grpc: Grpc,
        ..http: Http,
        ..door: Door,
        ..api: Api,
        ..jwt: Jwt,
        ..connections: Connections,
        ..admin: Admin,
        ..change_log: ChangeLog,
    }
}

/// All configuration keys, in the order of the reference.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    Settings::KEYS.iter().copied().flatten()
}

/// A valid filter of log lines.
pub(super) struct LogFilter(pub(super) String);

impl Parse for LogFilter {
    fn parse(text: String) -> Result<Self, String> {
        match text.parse::<EnvFilter>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err("must be a filter such as info or m4_user_details=debug,warn".to_owned()),
        }
    }
}
