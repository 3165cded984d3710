//! TLS, and the upstream of a standalone gateway.

use tonic::transport::Endpoint;

use super::Reader;
use crate::tls::{
    ClientCertificates, ClientFiles, ClientTls, File, Protocol, Reloading, ServerFiles, ServerTls,
    Source,
};

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

/// Configuration keys of a listener's TLS.
pub(super) struct ServerKeys {
    certificate: &'static str,
    key: &'static str,
    client_ca: &'static str,
    client_certificate: &'static str,
}

/// Configuration keys of gRPC's TLS.
pub(super) const GRPC: ServerKeys = ServerKeys {
    certificate: "grpc.tls_certificate",
    key: "grpc.tls_key",
    client_ca: "grpc.tls_client_ca",
    client_certificate: "grpc.tls_client_certificate",
};

/// Configuration keys of the legacy call's TLS.
pub(super) const HTTP: ServerKeys = ServerKeys {
    certificate: "http.tls_certificate",
    key: "http.tls_key",
    client_ca: "http.tls_client_ca",
    client_certificate: "http.tls_client_certificate",
};

impl Reader<'_> {
    /// TLS of a listener.
    pub(super) fn server_tls(
        &mut self,
        keys: &ServerKeys,
        protocol: Protocol,
    ) -> Option<ServerTls> {
        let own = self.pair(keys.certificate, keys.key);
        let required = match self.text(keys.client_certificate).as_str() {
            "required" => true,
            "optional" => false,
            _ => {
                self.wrong(keys.client_certificate, "must be required or optional");
                true
            }
        };
        let authorities = self.file(keys.client_ca);
        if let (Some(_), None) = (&authorities, &own) {
            self.wrong(keys.client_ca, format_args!("needs {}", keys.certificate));
        }
        let clients = authorities.map(|authorities| ClientCertificates { authorities, required });
        let (certificate, key) = own?;
        self.followed(ServerFiles { certificate, key, clients, protocol })
    }

    /// The upstream, with TLS if its URL is `https://`.
    pub(super) fn upstream(&mut self) -> Option<Upstream> {
        let key = "door.upstream";
        let text = self.text(key);
        let ca = self.file("door.tls_ca");
        let own = self.pair("door.tls_certificate", "door.tls_key");
        if text.is_empty() {
            return None;
        }
        let endpoint = Endpoint::from_shared(text).ok();
        let scheme = endpoint.as_ref().and_then(|endpoint| {
            endpoint.uri().host().and_then(|_| endpoint.uri().scheme_str()).map(str::to_owned)
        });
        let tls = match (scheme.as_deref(), ca) {
            (Some("http"), None) if own.is_none() => None,
            (Some("http"), _) => {
                self.wrong(key, "must be https://HOST:PORT where there is a door.tls_… key");
                None
            }
            (Some("https"), Some(authorities)) => self.followed(ClientFiles { authorities, own }),
            (Some("https"), None) => {
                self.wrong("door.tls_ca", "must name the authorities of an https:// upstream");
                None
            }
            _ => {
                self.wrong(key, "must be http://HOST:PORT or https://HOST:PORT");
                None
            }
        };
        endpoint.map(|endpoint| Upstream { endpoint, tls })
    }

    fn file(&mut self, key: &'static str) -> Option<File> {
        let path = self.text(key);
        (!path.is_empty()).then(|| File { key, path: path.into() })
    }

    /// A certificate and its key: both or none.
    fn pair(&mut self, certificate: &'static str, key: &'static str) -> Option<(File, File)> {
        match (self.file(certificate), self.file(key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                self.wrong(certificate, format_args!("needs {key}"));
                None
            }
            (None, Some(_)) => {
                self.wrong(key, format_args!("needs {certificate}"));
                None
            }
        }
    }

    fn followed<S: Source>(&mut self, source: S) -> Option<Reloading<S>> {
        match Reloading::read(source) {
            Ok(followed) => Some(followed),
            Err(error) => {
                self.wrong(error.key, error.problem);
                None
            }
        }
    }
}
