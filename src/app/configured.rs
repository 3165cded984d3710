//! The gateway as configured, and warnings about the configuration.

use crate::{
    config::{Config, SHORTEST_SECRET},
    gateway::Gateway,
    proto::Channel,
};

/// The gateway to the service behind `channel`.
pub(super) fn gateway(config: &Config, channel: Channel) -> Gateway {
    let tokens = config.door_tokens.clone();
    let mut gateway = Gateway::new(channel, tokens, config.answers, config.limits);
    gateway.proxies = config.proxies.clone();
    if config.http_tls.is_some() {
        gateway.scheme = "https";
    }
    gateway
}

/// Warns of short secrets, given their configuration keys.
pub(super) fn warn_of_short_secrets(keys: &[&str]) {
    if !keys.is_empty() {
        tracing::warn!(
            keys = keys.join(", "),
            "secrets are shorter than {SHORTEST_SECRET} characters, and the service listens on a non-loopback address"
        );
    }
}
