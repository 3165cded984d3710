//! Configuration: defaults, TOML file, environment, flags. All errors are reported together.

mod certificates;
mod keys;
mod layers;
mod masked;
mod transport;

use std::{fmt, fs, net::SocketAddr, path::Path, time::Duration};

use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};

pub use keys::{KEYS, Key};
pub use layers::{ConfigErrors, Layers};
pub use transport::Upstream;

use crate::{
    domain::hash::SecretKeys,
    grpc::{
        auth::{Authentication, InternalToken},
        certificates::Certificates,
    },
    jwt::{Provider, Source},
    legacy::{Answers, Limits},
    listen::{Age, ConnectionLimits, Timeouts},
    storage::{Engine, Options, check_url},
    tls::{Protocol, ServerTls},
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
    /// The token of a standalone gateway: the gateway sends it, the service accepts it.
    pub door_token: Option<SecretString>,
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
    /// The log filter, such as `info` or `m4_user_details=debug,warn`.
    pub log: String,
}

impl Config {
    /// Reads the layers.
    ///
    /// # Errors
    /// All errors in the layers.
    pub fn read(layers: &Layers) -> Result<Self, ConfigErrors> {
        let mut read = Reader { layers, errors: layers.wrong() };
        let url = read.text("database.url");
        if Engine::from_url(&url).is_none() {
            read.wrong("database.url", "must be sqlite://FILE, postgres://… or mysql://…");
        } else if let Err(error) = check_url(&url) {
            read.wrong("database.url", format!("cannot be used: {error}"));
        }
        let max_connections = read.number("database.max_connections", 1, 1000);
        let grpc_listen = read.address("grpc.listen");
        let http_listen = read.address("http.listen");
        let admin = read.text("admin.listen");
        let admin_listen = (!matches!(&*admin, "" | "off")).then(|| read.address("admin.listen"));
        let token = read.secret("grpc.token", "grpc.token_file");
        let service = read.text("grpc.token_name");
        let own_name = read.flag("grpc.token_own_name");
        let require_token = read.flag("grpc.require_token");
        let jwt = read.jwt();
        let door_token = read.secret("door.token", "door.token_file");
        let upstream = read.upstream();
        let grpc_tls = read.server_tls(&transport::GRPC, Protocol::Http2);
        let certificates = read.certificates();
        let http_tls = read.server_tls(&transport::HTTP, Protocol::Http1);
        let message_limit = read.number("grpc.message_limit", 2 << 20, 64 << 20);
        let message_memory = read.number("message_memory", 16 << 20, 16 << 30);
        let age = read.number("grpc.connection_age_seconds", 0, 86_400);
        let grace = read.number("grpc.connection_grace_seconds", 1, 3600);
        let keepalive = read.number("grpc.keepalive_seconds", 1, 3600);
        let max_clients = read.number("connections.max", 16, 100_000);
        let max_per_address = read.number("connections.max_per_address", 0, 100_000);
        let insecure = read.flag("insecure");
        let keys = read.keys();
        let answers = match read.text("http.answers").as_str() {
            "xml" => Answers::Xml,
            "html" => Answers::Html,
            _ => {
                read.wrong("http.answers", "must be xml or html");
                Answers::Xml
            }
        };
        let body = read.number("http.body_limit", 1024, 1024 * 1024);
        let deadline = read.number("deadline_seconds", 1, 300);
        let max_in_flight = read.number("max_in_flight", 1, 100_000);
        let gather = read.number("gather_milliseconds", 0, 100);
        let drain = read.number("drain_seconds", 1, 3600);
        let days = read.number("change_log.days", 0, 36_500);
        let settings_age = read.number("settings_cache_milliseconds", 0, 1000);
        let heartbeat = read.number("watch_heartbeat_seconds", 1, 3600);
        let log = read.log();
        if !read.errors.is_empty() {
            return Err(ConfigErrors(read.errors));
        }
        Ok(Self {
            database: Options {
                max_connections: u32::try_from(max_connections).unwrap_or(1),
                max_in_flight,
                gather: milliseconds(gather),
                ..Options::of(url)
            },
            grpc_listen,
            http_listen,
            admin_listen,
            internal: token.map(|token| InternalToken::new(service, token, own_name)),
            require_token,
            jwt,
            door_token,
            upstream,
            certificates,
            grpc_tls,
            http_tls,
            message_limit,
            message_memory,
            connections: ConnectionLimits {
                max: max_clients,
                max_per_address,
                age: Age {
                    longest: seconds(age),
                    grace: seconds(grace),
                    keepalive: seconds(keepalive),
                },
                timeouts: Timeouts::default(),
            },
            insecure,
            keys,
            answers,
            limits: Limits { body, deadline: seconds(deadline) },
            drain: seconds(drain),
            settings_age: milliseconds(settings_age),
            heartbeat: seconds(heartbeat),
            keep_log: i64::try_from(days).ok().filter(|days| *days > 0).map(TimeDelta::days),
            log,
        })
    }

    /// Reads only the log filter.
    ///
    /// # Errors
    /// An invalid filter, and the layers that cannot be read.
    pub fn log(layers: &Layers) -> Result<String, ConfigErrors> {
        let mut read = Reader { layers, errors: layers.wrong() };
        let log = read.log();
        if read.errors.is_empty() { Ok(log) } else { Err(ConfigErrors(read.errors)) }
    }

    /// Configuration keys of short secrets in use on non-loopback addresses.
    pub fn short_secrets(&self) -> Vec<&'static str> {
        let token = self.internal.as_ref().map(|internal| &internal.token);
        let (grpc, http) =
            (!self.grpc_listen.ip().is_loopback(), !self.http_listen.ip().is_loopback());
        let short = [
            ("api.secret_key", (grpc || http) && self.keys.have_shorter_than(SHORTEST_SECRET)),
            ("grpc.token", grpc && is_short(token)),
            ("door.token", grpc && is_short(self.door_token.as_ref())),
        ];
        short.into_iter().filter_map(|(key, is_short)| is_short.then_some(key)).collect()
    }

    /// Like [`Self::short_secrets`], for a standalone gateway, whose service is remote.
    pub fn short_gateway_secrets(&self) -> Vec<&'static str> {
        let is_short = is_short(self.door_token.as_ref());
        is_short.then_some("door.token").into_iter().collect()
    }

    /// The authentication settings, without service tokens and JWTs. If no method is configured,
    /// `insecure` admits every caller, and so does demo data on a loopback address.
    ///
    /// # Errors
    /// If other machines could reach the service without authentication.
    pub fn authentication(&self, demo: bool) -> Result<Authentication, Unauthenticated> {
        let loopback = self.grpc_listen.ip().is_loopback();
        let closed = self.internal.is_some()
            || self.jwt.is_some()
            || self.require_token
            || !self.certificates.is_empty();
        if !closed && !loopback && !self.insecure {
            return Err(Unauthenticated::Grpc(self.grpc_listen));
        }
        let has_demo_key = self.keys.have_demo_key() || (demo && self.keys.is_empty());
        // A standalone gateway on another machine forwards hashes over gRPC.
        let addresses = [self.http_listen, self.grpc_listen];
        let reached = addresses.into_iter().find(|address| !address.ip().is_loopback());
        if let Some(reached) = reached.filter(|_| has_demo_key && !self.insecure) {
            return Err(Unauthenticated::Demo(reached));
        }
        let open = !closed && (self.insecure || (demo && loopback));
        Ok(Authentication {
            internal: self.internal.clone(),
            door: self.door_token.clone(),
            certificates: self.certificates.clone(),
            open,
            ..Authentication::default()
        })
    }
}

fn is_short(secret: Option<&SecretString>) -> bool {
    let length = secret.map(|secret| secret.expose_secret().chars().count());
    length.is_some_and(|length| length < SHORTEST_SECRET)
}

/// Secrets with fewer characters count as short.
pub const SHORTEST_SECRET: usize = 16;

/// Other machines could reach the service without authentication.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Unauthenticated {
    /// Over gRPC.
    #[error(
        "{0} is not a loopback address and nothing is configured by which callers prove who they are: anybody who \
         reaches it could call. Set grpc.require_token (M4_GRPC_REQUIRE_TOKEN) and make tokens with `token create`, or \
         set grpc.token (M4_GRPC_TOKEN or M4_GRPC_TOKEN_FILE), jwt.jwks (M4_JWT_JWKS) or grpc.certificates_file, or \
         say --insecure"
    )]
    Grpc(SocketAddr),
    /// With the secret key of the demo data.
    #[error(
        "{0} is not a loopback address and everybody knows the secret key of the demo data. \
         Set api.secret_key (M4_API_SECRET_KEY or M4_API_SECRET_KEY_FILE), or say --insecure"
    )]
    Demo(SocketAddr),
}

fn seconds(number: usize) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(u64::MAX))
}

fn milliseconds(number: usize) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX))
}

/// Reads typed values and collects the errors.
struct Reader<'a> {
    layers: &'a Layers,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn wrong(&mut self, key: &str, problem: impl fmt::Display) {
        self.errors.push(format!("{key} ({}) {problem}", self.layers.source(key)));
    }

    fn text(&mut self, key: &'static str) -> String {
        self.layers.text(key).unwrap_or_else(|problem| {
            self.wrong(key, problem);
            String::new()
        })
    }

    fn address(&mut self, key: &'static str) -> SocketAddr {
        self.text(key).parse().unwrap_or_else(|_| {
            self.wrong(key, "must be an address and a port, such as 127.0.0.1:8080 or [::1]:8080");
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn number(&mut self, key: &'static str, least: usize, most: usize) -> usize {
        let number = self.text(key).parse().ok().filter(|number| (least..=most).contains(number));
        number.unwrap_or_else(|| {
            self.wrong(key, format_args!("must be a number from {least} to {most}"));
            least
        })
    }

    /// The log filter.
    fn log(&mut self) -> String {
        let log = self.text("log");
        if log.parse::<tracing_subscriber::EnvFilter>().is_err() {
            self.wrong("log", "must be a filter such as info or m4_user_details=debug,warn");
        }
        log
    }

    fn flag(&mut self, key: &'static str) -> bool {
        self.text(key).parse().unwrap_or_else(|_| {
            self.wrong(key, "must be true or false");
            false
        })
    }

    /// The accepted JWTs: all three keys, or none.
    fn jwt(&mut self) -> Option<Provider> {
        let keys = ["jwt.jwks", "jwt.issuer", "jwt.audience"];
        let [jwks, issuer, audience] = keys.map(|key| self.text(key));
        let tls_ca = Some(self.text("jwt.tls_ca")).filter(|path| !path.is_empty());
        let given = [&jwks, &issuer, &audience].map(|text| !text.is_empty());
        if given == [false; 3] && tls_ca.is_none() {
            return None;
        }
        for (key, _) in keys.into_iter().zip(given).filter(|(_, given)| !given) {
            self.wrong(key, "must be set where the other keys of jwt are");
        }
        let source = match jwks.split_once("://") {
            None => Some(Source::File(jwks.into())),
            Some(("http" | "https", _)) => {
                jwks.parse().ok().map(|url| Source::Url(url, tls_ca.map(Into::into)))
            }
            Some(_) => None,
        };
        if source.is_none() {
            self.wrong("jwt.jwks", "must be a file, or an http:// or https:// URL");
        }
        Some(Provider { source: source?, issuer, audience })
    }

    /// A secret from its key, or from the file that `file_key` names.
    fn secret(&mut self, key: &'static str, file_key: &'static str) -> Option<SecretString> {
        let (secret, file) = (self.text(key), self.text(file_key));
        match (secret.is_empty(), file.is_empty()) {
            (true, true) => None,
            (false, true) => Some(secret.into()),
            (true, false) => {
                let secret = self.lines(file_key, &file).into_iter().next();
                if secret.is_none() {
                    self.wrong(file_key, "must name a file with the secret on its first line");
                }
                secret
            }
            (false, false) => {
                self.wrong(file_key, format_args!("cannot be set together with {key}"));
                None
            }
        }
    }

    /// The secret keys of legacy calls.
    fn keys(&mut self) -> SecretKeys {
        let current = self.text("api.secret_key");
        let previous = self.text("api.secret_key_previous");
        let file = self.text("api.secret_key_file");
        if file.is_empty() {
            return SecretKeys::new([current.into(), previous.into()]);
        }
        if !current.is_empty() || !previous.is_empty() {
            self.wrong("api.secret_key_file", "cannot be set together with other secret keys");
        }
        let keys = self.lines("api.secret_key_file", &file);
        if keys.is_empty() {
            self.wrong("api.secret_key_file", "must name a file with one key a line");
        }
        SecretKeys::new(keys)
    }

    /// The non-empty lines of a file.
    fn lines(&mut self, key: &'static str, file: &str) -> Vec<SecretString> {
        match fs::read_to_string(Path::new(file)) {
            Ok(text) => {
                let text = SecretString::from(text);
                let lines = text.expose_secret().lines().filter(|line| !line.is_empty());
                lines.map(SecretString::from).collect()
            }
            Err(error) => {
                self.wrong(key, format_args!("cannot be read: {}", error.kind()));
                Vec::new()
            }
        }
    }
}
