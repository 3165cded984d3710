//! The gateway as configured, and warnings about the configuration.

use chrono::{DateTime, Utc};

use crate::{
    config::{Config, SHORTEST_SECRET},
    gateway::Gateway,
    proto::Channel,
    tls::Expiry,
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

/// Logs certificates that are expired or expire soon. The service starts: old certificates of
/// authorities may stand beside new ones.
pub(super) fn log_expiry(config: &Config, now: DateTime<Utc>) {
    for file in config.certificate_files() {
        let key = file.key;
        match file.expiry(now) {
            Ok(Expiry::Expired(end)) => {
                tracing::error!(key, %end, "a certificate is expired");
            }
            Ok(Expiry::Soon(end)) => tracing::warn!(key, %end, "a certificate expires soon"),
            Ok(Expiry::Later(_)) | Err(_) => {}
        }
    }
}
