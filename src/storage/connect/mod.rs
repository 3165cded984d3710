//! Connection pools, configured for durable commits.

mod check;
mod engine;
mod error;
mod fitness;
mod lease;
mod login;
mod options;
mod pools;
mod servers;
mod session;
mod source;
mod url;

use std::sync::Arc;

use opentelemetry::KeyValue;
use sea_orm::sqlx::postgres::PgConnectOptions;

use self::url::ServerUrl;
pub(super) use self::{
    check::{check, fitness},
    engine::{begin_syncs, checks_open_transaction},
    lease::Lease,
    options::ACQUIRE_TIMEOUT,
    pools::{Pools, WRITERS, open, own_work, read_only, readers, single, writing},
    source::open_source,
};
pub use self::{
    engine::Engine,
    error::{OpenError, Unfit},
    options::Options,
    url::UrlError,
};
use crate::telemetry::names;

/// Telemetry attributes: the database name and, for a single host, address and non-default port.
pub(super) fn attributes(options: &Options) -> Vec<KeyValue> {
    let Ok(url) = ServerUrl::read(&options.url) else { return Vec::new() };
    // `Arc`: every record clones the attributes.
    let shared = |text: String| Arc::<str>::from(text);
    let name = url.hosts.first().and_then(url::Host::database);
    let mut attributes: Vec<_> =
        name.map(|name| KeyValue::new(names::DB_NAMESPACE, shared(name))).into_iter().collect();
    let [host] = &*url.hosts else { return attributes };
    attributes.push(KeyValue::new(names::SERVER_ADDRESS, shared(host.address())));
    if let Some(port) = host.unusual_port() {
        attributes.push(KeyValue::new(names::SERVER_PORT, i64::from(port)));
    }
    attributes
}

/// The connect options of each PostgreSQL host. Empty on other engines.
pub(super) fn postgres_hosts(options: &Options) -> Vec<PgConnectOptions> {
    let hosts = ServerUrl::read(&options.url).map(|url| url.hosts).unwrap_or_default();
    let postgres = |host| match host {
        url::Host::Postgres(options) => Some(options),
        url::Host::MySql(_) => None,
    };
    hosts.into_iter().filter_map(postgres).collect()
}
