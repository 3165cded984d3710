//! Binds the listeners.

use std::net::SocketAddr;

use super::{configured::log_expiry, error::RunError};
use crate::{
    config::Config,
    domain::clock::{Clock, SystemClock},
    gateway::Gateway,
    server::{self, ConnectionLimits, Listener, MakesRoom, Proxies, descriptors},
    tls::ServerTls,
};

/// The listener of metrics and the gateway's probes; `None` if disabled.
pub(super) fn admin(
    config: &Config,
    door: &Gateway,
) -> Result<Option<(Listener, axum::Router)>, RunError> {
    let Some(address) = config.admin_listen else { return Ok(None) };
    let max = descriptors::MAX_ADMIN_CONNECTIONS;
    let makes_room = MakesRoom::OfLargestAddress;
    let limits = ConnectionLimits { max, max_per_address: 0, makes_room, ..config.connections };
    let listener = listener("admin", address, None, limits, Proxies::default())?;
    Ok(Some((listener, crate::admin::router(door.probes()))))
}

/// The listener of gRPC.
pub(super) fn grpc(config: &Config, limits: ConnectionLimits) -> Result<Listener, RunError> {
    listener("grpc", config.grpc_listen, config.grpc_tls.clone(), limits, Proxies::default())
}

/// The listener of legacy calls. Every application has one, so it logs the expiry of certificates.
pub(super) fn http(config: &Config, limits: ConnectionLimits) -> Result<Listener, RunError> {
    log_expiry(config, SystemClock.now());
    let proxies =
        Proxies { trusted: config.proxies.networks.clone(), write_header: config.proxy_protocol };
    let is_open = proxies.write_header && proxies.trusted.is_empty();
    if is_open && !config.http_listen.ip().is_loopback() {
        tracing::warn!(
            "http.proxy_protocol without http.trusted_proxies: anyone who can connect can claim any \
             client address"
        );
    }
    listener("http", config.http_listen, config.http_tls.clone(), limits, proxies)
}

fn listener(
    name: &'static str,
    address: SocketAddr,
    tls: Option<ServerTls>,
    limits: ConnectionLimits,
    proxies: Proxies,
) -> Result<Listener, RunError> {
    let key = match name {
        "grpc" => "M4_GRPC_LISTEN",
        "http" => "M4_HTTP_LISTEN",
        _ => "M4_ADMIN_LISTEN",
    };
    let bound = server::bind(address);
    let socket = bound.map_err(|error| RunError::Listen { address, key, error })?;
    Ok(Listener { name, socket, tls, limits, proxies })
}

/// The configured limits per listener, lowered to what the file descriptors allow.
pub(super) fn limits(config: &Config, listeners: usize) -> ConnectionLimits {
    let mut limits = config.connections;
    let descriptors = descriptors::limit();
    let database = usize::try_from(config.database.max_connections).unwrap_or(usize::MAX);
    limits.max = descriptors::connections(descriptors, limits.max, listeners, database);
    if limits.max < config.connections.max {
        tracing::warn!(
            descriptors,
            connections = limits.max,
            configured = config.connections.max,
            "few file descriptors (RLIMIT_NOFILE) allow fewer connections than configured"
        );
    }
    limits
}
