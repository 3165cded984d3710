//! TLS on the listeners and towards a door's upstream. Certificates and keys are files that a configuration key names; they
//! are read again when they change.

mod client;
mod files;
mod server;

use std::{fs, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

pub use client::ClientFiles;
pub(crate) use client::healthcheck_client_config;
pub use files::{Reloading, Source};
pub(crate) use server::names;
pub use server::{ClientCertificates, Protocol, ServerFiles, SubjectAltName};

/// TLS of a listener.
pub type ServerTls = Reloading<ServerFiles>;
/// TLS towards a door's upstream.
pub type ClientTls = Reloading<ClientFiles>;

/// A file, and the configuration key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The configuration key.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// Why files cannot be used. Tells nothing of what they hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}")]
pub struct TlsError {
    /// The configuration key of the file.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
}

impl File {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        let content = fs::read(&self.path);
        content.map_err(|error| self.wrong(format!("cannot be read: {}", error.kind())))
    }

    fn wrong(&self, problem: impl Into<String>) -> TlsError {
        TlsError { key: self.key, problem: problem.into() }
    }

    /// The certificates in what the file holds, one at least.
    fn certificates(&self, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
        let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
        certificates.ok_or_else(|| self.wrong("must name a PEM file with a certificate"))
    }

    /// The private key in what the file holds.
    fn private_key(&self, content: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(content)
            .map_err(|_| self.wrong("must name a PEM file with a private key"))
    }

    /// The authorities in what the file holds.
    fn authorities(&self, content: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
        let mut authorities = RootCertStore::empty();
        for certificate in self.certificates(content)? {
            authorities.add(certificate).map_err(|error| self.unfit(&error))?;
        }
        Ok(Arc::new(authorities))
    }

    /// What rustls says of it, such as that key and certificate do not match.
    fn unfit(&self, error: &rustls::Error) -> TlsError {
        self.wrong(format!("cannot be used: {error}"))
    }
}

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
