//! Configuration: defaults, TOML file, environment, flags. All errors are reported together.

mod admin;
mod api;
mod authentication;
mod certificates;
mod change_log;
mod checks;
mod connections;
mod database;
mod door;
mod grpc;
mod http;
mod jwt;
mod layer;
mod layers;
mod masked;
pub mod reference;
mod secret_file;
mod section;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod unknown;
mod value;
mod variables;

use std::{net::SocketAddr, time::Duration};

use chrono::TimeDelta;

pub use authentication::{SHORTEST_SECRET, Unauthenticated};
pub use door::Upstream;
pub use layers::{ConfigErrors, Layers};
pub use secret_file::SecretFile;
pub use section::Key;
pub use settings::keys;
pub use variables::FILE_VARIABLE;

use self::{checks::Checks, settings::Settings};
use crate::{
    domain::{hash::SecretKeys, master_key::MasterKeys},
    gateway::{Answers, Limits, TrustedProxies},
    grpc::{auth::InternalToken, certificates::Certificates},
    jwt::Provider,
    secrets::Secrets,
    server::{Age, ConnectionLimits, MakesRoom, Timeouts},
    storage::Options,
    tls::{Reloading, ServerTls},
};

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database.
    pub database: Options,
    /// Listen address of gRPC.
    pub grpc_listen: SocketAddr,
    /// Listen address of the legacy call.
    pub http_listen: SocketAddr,
    /// Listen address of metrics and probes; `None` if disabled.
    pub admin_listen: Option<SocketAddr>,
    /// The static token of internal callers.
    pub internal: Option<InternalToken>,
    /// Whether callers must authenticate even if no authentication method is configured.
    pub require_token: bool,
    /// The issuer, audience and keys of accepted JWTs.
    pub jwt: Option<Provider>,
    /// The tokens of standalone gateways: a gateway sends the first, the service accepts all.
    pub door_tokens: Option<Secrets>,
    /// The files of secrets, to follow.
    pub secret_files: Vec<Reloading<SecretFile>>,
    /// The upstream of a standalone gateway.
    pub upstream: Option<Upstream>,
    /// The holders of client certificates.
    pub certificates: Certificates,
    /// TLS of gRPC.
    pub grpc_tls: Option<ServerTls>,
    /// TLS of the legacy call.
    pub http_tls: Option<ServerTls>,
    /// Maximum size of a gRPC message, in bytes.
    pub message_limit: usize,
    /// The byte budget of messages and responses.
    pub message_memory: usize,
    /// The connection limits of the gRPC and HTTP listeners.
    pub connections: ConnectionLimits,
    /// Whether to start without authentication on non-loopback addresses.
    pub insecure: bool,
    /// The secret keys of legacy calls.
    pub keys: SecretKeys,
    /// The master keys of client keys.
    pub master_keys: MasterKeys,
    /// The media type of legacy responses.
    pub answers: Answers,
    /// The limits of a legacy call. RPCs have the same deadline.
    pub limits: Limits,
    /// Drain deadline: how long running calls may take after a stop signal.
    pub drain: Duration,
    /// How long the change log is kept; `None` keeps it forever.
    pub keep_log: Option<TimeDelta>,
    /// How long legacy calls cache the settings; zero disables the cache.
    pub settings_age: Duration,
    /// Interval of heartbeats on idle subscriptions.
    pub heartbeat: Duration,
    /// The proxies in front of the HTTP listener.
    pub proxies: TrustedProxies,
    /// Whether connections of the HTTP listener begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The log filter, such as `info` or `m4_user_details=debug,warn`.
    pub log: String,
}

impl Config {
    /// Reads the layers.
    ///
    /// # Errors
    /// All errors in the layers.
    pub fn read(layers: &Layers) -> Result<Self, ConfigErrors> {
        let (settings, errors) = layers.extract();
        let Some(settings) = settings else { return Err(ConfigErrors(errors)) };
        let Settings { grpc, http, door, connections, .. } = settings;
        let mut checks = layers.checks(errors);
        let config = Self {
            grpc_listen: grpc.listen,
            http_listen: http.listen,
            proxies: http.proxies(),
            proxy_protocol: http.proxy_protocol.0,
            admin_listen: settings.admin.listen.0,
            internal: grpc.internal(&mut checks),
            require_token: grpc.require_token,
            jwt: settings.jwt.provider(&mut checks),
            door_tokens: door.tokens(&mut checks),
            secret_files: Vec::new(),
            upstream: door.upstream(&mut checks),
            certificates: grpc.certificates(&mut checks),
            grpc_tls: grpc.tls().read(&mut checks),
            http_tls: http.tls().read(&mut checks),
            message_limit: grpc.message_limit.0,
            message_memory: settings.message_memory.0,
            connections: ConnectionLimits {
                max: connections.max.0,
                max_per_address: connections.max_per_address.0,
                makes_room: MakesRoom::LongestWaiting,
                age: Age {
                    longest: grpc.connection_age_seconds.seconds(),
                    grace: grpc.connection_grace_seconds.seconds(),
                    keepalive: grpc.keepalive_seconds.seconds(),
                },
                timeouts: Timeouts::default(),
            },
            insecure: settings.insecure,
            keys: settings.api.secret_keys(&mut checks),
            master_keys: settings.api.master_keys(&mut checks),
            answers: http.answers,
            limits: Limits {
                body: http.body_limit.0,
                deadline: settings.deadline_seconds.seconds(),
            },
            drain: settings.drain_seconds.seconds(),
            keep_log: settings.change_log.retention(),
            settings_age: settings.settings_cache_milliseconds.milliseconds(),
            heartbeat: settings.watch_heartbeat_seconds.seconds(),
            log: settings.log.0,
            database: Options {
                max_connections: settings.database.max_connections.0 as u32,
                max_in_flight: settings.max_in_flight.0,
                gather: settings.gather_milliseconds.milliseconds(),
                ..Options::of(settings.database.url.0)
            },
        };
        let Checks { errors, secret_files, .. } = checks;
        if errors.is_empty() {
            Ok(Self { secret_files, ..config })
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// Reads only the log filter.
    ///
    /// # Errors
    /// All wrong values, also of other keys.
    pub fn log(layers: &Layers) -> Result<String, ConfigErrors> {
        match layers.extract() {
            (Some(settings), errors) if errors.is_empty() => Ok(settings.log.0),
            (_, errors) => Err(ConfigErrors(errors)),
        }
    }
}
