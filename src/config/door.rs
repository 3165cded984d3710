//! The section `door`: the standalone gateway.

use std::path::PathBuf;

use secrecy::SecretString;
use tonic::transport::Endpoint;

use super::{
    checks::{Checks, file},
    secret_file,
    section::section,
};
use crate::{
    secrets::Secrets,
    tls::{ClientFiles, ClientTls},
};

section! {
    /// The standalone gateway.
    Door("door.") {
        /// Upstream of `serve --door-only`: `http://HOST:PORT` or `https://HOST:PORT`.
        upstream: Option<String> = "",
        /// PEM file: authorities of the certificate of an `https://` upstream.
        tls_ca: Option<PathBuf> = "",
        /// PEM file: client certificate of the standalone gateway.
        tls_certificate: Option<PathBuf> = "",
        /// PEM file: private key of `door.tls_certificate`.
        tls_key: Option<PathBuf> = "",
        /// Token of the standalone gateway: the gateway sends it, and the service accepts it.
        token: Option<SecretString> = "",
        /// File with one token per line, instead of `door.token`. The gateway sends the first, and the
        /// service accepts all. Read again when it changes.
        token_file: Option<PathBuf> = "",
    }
}

/// The upstream of a standalone gateway.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// TLS, if the endpoint is `https://`.
    pub tls: Option<ClientTls>,
}

impl Upstream {
    /// The host's name or address, and the port.
    pub fn address(&self) -> (String, u16) {
        let uri = self.endpoint.uri();
        let port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(port))
    }
}

impl Door {
    pub(super) fn tokens(&self, checks: &mut Checks<'_>) -> Option<Secrets> {
        let file = ("door.token_file", self.token_file.as_deref());
        let own = [("door.token", self.token.as_ref())];
        let is_set = self.token.is_some() || self.token_file.is_some();
        is_set.then(|| checks.secrets(&own, file, secret_file::token))
    }

    /// The upstream, with TLS if its URL is `https://`.
    pub(super) fn upstream(self, checks: &mut Checks<'_>) -> Option<Upstream> {
        const KEY: &str = "door.upstream";
        let authorities = file(("door.tls_ca", self.tls_ca.as_deref()));
        let certificate = ("door.tls_certificate", self.tls_certificate.as_deref());
        let own = checks.pair(certificate, ("door.tls_key", self.tls_key.as_deref()));
        let endpoint = Endpoint::from_shared(self.upstream?).ok();
        let uri = endpoint.as_ref().map(Endpoint::uri).filter(|uri| uri.host().is_some());
        let tls = match (uri.and_then(|uri| uri.scheme_str()), authorities) {
            (Some("http"), None) if own.is_none() => None,
            (Some("http"), _) => {
                checks.wrong(KEY, "must be https://HOST:PORT if a door.tls_… key is set");
                None
            }
            (Some("https"), Some(authorities)) => {
                checks.reloading(ClientFiles { authorities, own })
            }
            (Some("https"), None) => {
                checks.wrong("door.tls_ca", "must name the authorities of the https:// upstream");
                None
            }
            _ => {
                checks.wrong(KEY, "must be http://HOST:PORT or https://HOST:PORT");
                None
            }
        };
        Some(Upstream { endpoint: endpoint?, tls })
    }
}
