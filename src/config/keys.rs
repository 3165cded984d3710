//! All configuration keys.

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The path in the configuration file.
    pub path: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// The default value; empty for none.
    pub default: &'static str,
    /// Whether the value must not be shown.
    pub secret: bool,
    /// The help text.
    pub help: &'static str,
}

const fn key(
    path: &'static str,
    env: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { path, env, default, secret: false, help }
}

const fn secret(path: &'static str, env: &'static str, help: &'static str) -> Key {
    Key { path, env, default: "", secret: true, help }
}

/// All configuration keys.
pub const KEYS: &[Key] = &[
    key(
        "database.url",
        "M4_DATABASE_URL",
        "sqlite://m4-user-details.db",
        "`sqlite://FILE`, `postgres://…` or `mysql://…`, also `postgres://A,B/NAME`",
    ),
    key(
        "database.max_connections",
        "M4_DATABASE_MAX_CONNECTIONS",
        "10",
        "connections to the database at most; on a server one more for the readiness probe, and on PostgreSQL another one while anybody watches",
    ),
    key("grpc.listen", "M4_GRPC_LISTEN", "127.0.0.1:50051", "where gRPC is served"),
    secret("grpc.token", "M4_GRPC_TOKEN", "the bearer token of internal callers"),
    key("grpc.token_file", "M4_GRPC_TOKEN_FILE", "", "a file with that token instead"),
    key(
        "grpc.token_name",
        "M4_GRPC_TOKEN_NAME",
        "internal",
        "the name of its holder in the change log",
    ),
    key(
        "grpc.token_own_name",
        "M4_GRPC_TOKEN_OWN_NAME",
        "false",
        "whether its holder may act in its own name, with an admin's rights",
    ),
    key(
        "grpc.require_token",
        "M4_GRPC_REQUIRE_TOKEN",
        "false",
        "demand a token though none is configured: those of `token create` are in the database",
    ),
    key(
        "jwt.jwks",
        "M4_JWT_JWKS",
        "",
        "the keys of those whose JWTs are accepted: a file, or an `http://` or `https://` URL, with a JWKS",
    ),
    key(
        "jwt.tls_ca",
        "M4_JWT_TLS_CA",
        "",
        "a PEM file: the authorities of the certificate of an `https://` URL, instead of the public ones",
    ),
    key("jwt.issuer", "M4_JWT_ISSUER", "", "what `iss` of a JWT must be"),
    key("jwt.audience", "M4_JWT_AUDIENCE", "", "what must be among `aud` of a JWT"),
    key(
        "grpc.tls_certificate",
        "M4_GRPC_TLS_CERTIFICATE",
        "",
        "a PEM file: the certificate with which gRPC speaks TLS, with those between it and its authority",
    ),
    key("grpc.tls_key", "M4_GRPC_TLS_KEY", "", "a PEM file: its private key"),
    key(
        "grpc.tls_client_ca",
        "M4_GRPC_TLS_CLIENT_CA",
        "",
        "a PEM file: the authorities whose client certificates are accepted",
    ),
    key(
        "grpc.tls_client_certificate",
        "M4_GRPC_TLS_CLIENT_CERTIFICATE",
        "required",
        "with `grpc.tls_client_ca`: whether a client must have a certificate (`required`) or may (`optional`)",
    ),
    key(
        "grpc.certificates_file",
        "M4_GRPC_CERTIFICATES_FILE",
        "",
        "a TOML file that says whose client certificates are",
    ),
    key(
        "grpc.message_limit",
        "M4_GRPC_MESSAGE_LIMIT",
        "4194304",
        "the largest message either way, in bytes, when it is no longer compressed",
    ),
    key(
        "grpc.connection_age_seconds",
        "M4_GRPC_CONNECTION_AGE_SECONDS",
        "1800",
        "after which, a tenth sooner or later, a connection of either listener takes no new calls; 0 is never",
    ),
    key(
        "grpc.connection_grace_seconds",
        "M4_GRPC_CONNECTION_GRACE_SECONDS",
        "60",
        "how long calls under way on it may then go on",
    ),
    key(
        "grpc.keepalive_seconds",
        "M4_GRPC_KEEPALIVE_SECONDS",
        "60",
        "after how much silence a connection is asked whether it lives; it has a third of that to answer",
    ),
    key(
        "connections.max",
        "M4_CONNECTIONS_MAX",
        "1024",
        "connections of clients at each of the gRPC and HTTP listeners; fewer where the process has not enough file descriptors",
    ),
    key(
        "connections.max_per_address",
        "M4_CONNECTIONS_MAX_PER_ADDRESS",
        "256",
        "connections of one client address (IPv6: of one /64 network); 0 is no such limit, for example behind a proxy",
    ),
    key("http.listen", "M4_HTTP_LISTEN", "127.0.0.1:8080", "where the legacy call is served"),
    key(
        "http.answers",
        "M4_HTTP_ANSWERS",
        "xml",
        "media type of legacy answers: `xml` is `text/xml`, `html` is `text/html` for old .NET clients",
    ),
    key("http.body_limit", "M4_HTTP_BODY_LIMIT", "262144", "the largest body, in bytes"),
    key(
        "http.tls_certificate",
        "M4_HTTP_TLS_CERTIFICATE",
        "",
        "a PEM file: the certificate with which the listener of the legacy call speaks TLS, with those between it and its authority",
    ),
    key("http.tls_key", "M4_HTTP_TLS_KEY", "", "a PEM file: its private key"),
    key(
        "http.tls_client_ca",
        "M4_HTTP_TLS_CLIENT_CA",
        "",
        "a PEM file: the authorities whose client certificates are accepted",
    ),
    key(
        "http.tls_client_certificate",
        "M4_HTTP_TLS_CLIENT_CERTIFICATE",
        "required",
        "with `http.tls_client_ca`: whether a client must have a certificate (`required`) or may (`optional`)",
    ),
    key(
        "door.upstream",
        "M4_DOOR_UPSTREAM",
        "",
        "the service, `http://HOST:PORT` or `https://HOST:PORT`, that `serve --door-only` speaks to",
    ),
    key(
        "door.tls_ca",
        "M4_DOOR_TLS_CA",
        "",
        "a PEM file: the authorities of the certificate of an `https://` upstream",
    ),
    key(
        "door.tls_certificate",
        "M4_DOOR_TLS_CERTIFICATE",
        "",
        "a PEM file: the client certificate that such a door shows",
    ),
    key("door.tls_key", "M4_DOOR_TLS_KEY", "", "a PEM file: its private key"),
    secret(
        "door.token",
        "M4_DOOR_TOKEN",
        "the token with which such a door proves itself; the same on both sides",
    ),
    key("door.token_file", "M4_DOOR_TOKEN_FILE", "", "a file with that token instead"),
    secret("api.secret_key", "M4_API_SECRET_KEY", "the secret key of legacy calls, taken verbatim"),
    secret(
        "api.secret_key_previous",
        "M4_API_SECRET_KEY_PREVIOUS",
        "a key that is being retired and still accepted",
    ),
    key(
        "api.secret_key_file",
        "M4_API_SECRET_KEY_FILE",
        "",
        "a file with one key a line instead, the current one first",
    ),
    key(
        "admin.listen",
        "M4_ADMIN_LISTEN",
        "127.0.0.1:9090",
        "where metrics and the probes are served; `off` is nowhere",
    ),
    key("deadline_seconds", "M4_DEADLINE_SECONDS", "10", "the longest that a call takes"),
    key("max_in_flight", "M4_MAX_IN_FLIGHT", "1024", "calls under way at once; more are refused"),
    key(
        "message_memory",
        "M4_MESSAGE_MEMORY",
        "67108864",
        "bytes that messages and answers may take in memory; calls over it are refused, small ones last",
    ),
    key(
        "gather_milliseconds",
        "M4_GATHER_MILLISECONDS",
        "2",
        "on a server: about how long updates wait at most for others to share a transaction while another one is under way; 100 at most",
    ),
    key(
        "drain_seconds",
        "M4_DRAIN_SECONDS",
        "20",
        "how long calls under way may take after SIGTERM",
    ),
    key(
        "change_log.days",
        "M4_CHANGE_LOG_DAYS",
        "0",
        "for how many days the change log is kept; 0 is for ever",
    ),
    key(
        "settings_cache_milliseconds",
        "M4_SETTINGS_CACHE_MILLISECONDS",
        "1000",
        "for how long legacy calls believe the settings that were read, 1000 at most; 0 reads them for each call",
    ),
    key(
        "watch_heartbeat_seconds",
        "M4_WATCH_HEARTBEAT_SECONDS",
        "10",
        "how often one who watches hears of it that there is nothing to tell",
    ),
    key(
        "insecure",
        "M4_INSECURE",
        "false",
        "start without authentication where others reach the service",
    ),
    key(
        "log",
        "M4_LOG",
        "info",
        "what is logged: a level, or a filter such as `m4_user_details=debug,warn`; read anew at SIGHUP",
    ),
];
