//! TLS of a listener, and the names in a client's certificate.

use std::sync::Arc;

use tokio_rustls::rustls::{
    ServerConfig,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use super::{
    file::{File, FileError, provider},
    reloading::Source,
};

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The policy for client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that issue client certificates.
    pub authorities: File,
    /// Whether a client certificate is required or optional.
    pub required: bool,
}

/// The files of a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The listener's certificate, with its intermediate certificates.
    pub certificate: File,
    /// The private key.
    pub key: File,
    /// The policy for client certificates; `None` requests no certificate.
    pub clients: Option<ClientCertificates>,
    /// The protocol.
    pub protocol: Protocol,
}

impl Source for ServerFiles {
    const NAME: &'static str = "certificates";
    type Made = ServerConfig;

    fn files(&self) -> Vec<&File> {
        let authorities = self.clients.as_ref().map(|clients| &clients.authorities);
        [&self.certificate, &self.key].into_iter().chain(authorities).collect()
    }

    fn make(&self, contents: &[Vec<u8>]) -> Result<ServerConfig, FileError> {
        let content = |index: usize| contents.get(index).map_or(&[][..], Vec::as_slice);
        let certificates = self.certificate.certificates(content(0))?;
        let key = self.key.private_key(content(1))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.certificate.unfit(&error))?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(ClientCertificates { authorities, required }) => {
                let roots = authorities.authorities(content(2))?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build();
                builder.with_client_cert_verifier(
                    verifier
                        .map_err(|error| authorities.wrong(format!("cannot be used: {error}")))?,
                )
            }
        };
        let made = builder.with_single_cert(certificates, key);
        let mut made = made.map_err(|error| self.key.unfit(&error))?;
        let protocol: &[u8] = match self.protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        };
        made.alpn_protocols = vec![protocol.to_vec()];
        if self.clients.is_some() {
            // A resumed session skips verification of the client's certificate, even if expired.
            made.session_storage = Arc::new(NoServerSessionStorage {});
            made.send_tls13_tickets = 0;
        }
        Ok(made)
    }
}

/// A subject alternative name of a certificate. The type is part of the name: an authority may be
/// constrained to some DNS names, and yet issue any URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubjectAltName {
    /// A URI.
    Uri(String),
    /// A DNS name.
    Dns(String),
}

impl SubjectAltName {
    /// Parses a configured name: a URI if the text contains `://`, else a DNS name.
    pub fn of(text: &str) -> Self {
        if text.contains("://") { Self::Uri(text.to_owned()) } else { Self::Dns(text.to_owned()) }
    }
}

/// The URIs and DNS names among the subject alternative names of a client's certificate.
pub(crate) fn names(certificates: Option<&[CertificateDer<'_>]>) -> Vec<SubjectAltName> {
    let certificate = certificates.and_then(<[_]>::first);
    let Some(Ok(certificate)) = certificate.map(webpki::EndEntityCert::try_from) else {
        return Vec::new();
    };
    let uris = certificate.valid_uri_names().map(|uri| SubjectAltName::Uri(uri.to_owned()));
    let hosts = certificate.valid_dns_names().map(|host| SubjectAltName::Dns(host.to_owned()));
    uris.chain(hosts).collect()
}
