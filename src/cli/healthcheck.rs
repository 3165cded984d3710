//! `healthcheck`: asks the service or standalone gateway on this machine whether it is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{Method, StatusCode};

use super::{error::CliError, http_client};
use crate::{config::Config, tls::healthcheck_client_config};

pub(super) async fn run(config: &Config) -> Result<(), CliError> {
    // Clients cannot fill the admin listener, and it has no TLS.
    let (mut address, tls) = match config.admin_listen {
        Some(address) => (address, None),
        None => (config.http_listen, config.http_tls.as_ref()),
    };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let tls = tls.map(|tls| healthcheck_client_config(tls.source())).transpose();
    let tls = tls.map_err(|error| CliError::Failed(error.to_string()))?;
    // The health check speaks for itself, like a proxy's.
    let is_behind_proxy = config.admin_listen.is_none() && config.proxy_protocol;
    let proxy_header: &[u8] = if is_behind_proxy { b"PROXY UNKNOWN\r\n" } else { b"" };
    let request = (Method::GET, "/readyz");
    match http_client::send(address, tls, proxy_header, request).await? {
        (StatusCode::OK, _) => Ok(()),
        (status, _) => Err(CliError::Failed(format!("{address} answers {status}"))),
    }
}
