//! The listen addresses.

use std::{io::ErrorKind, net::SocketAddr};

use crate::{config::Config, finding::Finding, server};

/// Tries to bind each address.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut addresses =
        vec![("grpc.listen", config.grpc_listen), ("http.listen", config.http_listen)];
    addresses.extend(config.admin_listen.map(|address| ("admin.listen", address)));
    addresses.into_iter().map(|(key, address)| listener(key, address)).collect()
}

fn listener(key: &str, address: SocketAddr) -> Finding {
    const LISTENERS: &str = "listeners";
    match server::bind(address) {
        Ok(_) => Finding::ok(LISTENERS, format!("{key}: {address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let found = format!("{key}: {address} is in use");
            let remedy =
                "nothing if the service runs; else stop the other program, or set another address";
            Finding::warning(LISTENERS, found, remedy)
        }
        Err(error) => {
            let found = format!("{key}: {address} cannot be bound: {}", error.kind());
            Finding::error(
                LISTENERS,
                found,
                "set an address of this machine, and a port above 1023",
            )
        }
    }
}
