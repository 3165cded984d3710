//! TLS on the listeners and from the gateway to its upstream. Configuration keys name the files of
//! certificates and private keys. Changed files are read again.

mod client;
mod files;
mod listener;

use std::{fs, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

pub use client::ClientFiles;
pub(crate) use client::healthcheck_client_config;
pub use files::{Reloading, Source};
pub(crate) use listener::names;
pub use listener::{ClientCertificates, Protocol, ServerFiles, SubjectAltName};

/// TLS of a listener.
pub type ServerTls = Reloading<ServerFiles>;
/// TLS from the gateway to its upstream.
pub type ClientTls = Reloading<ClientFiles>;

/// A file, and the configuration key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The configuration key.
    pub key: &'static str,
    /// The file's path.
    pub path: PathBuf,
}

/// Why a file cannot be used. Never contains the file's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}")]
pub struct TlsError {
    /// The configuration key of the file.
    pub key: &'static str,
    /// The problem, as the end of a sentence that begins with `key`.
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

    /// The certificates in the file's content, at least one.
    fn certificates(&self, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
        let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
        certificates.ok_or_else(|| self.wrong("must name a PEM file with a certificate"))
    }

    /// The private key in the file's content.
    fn private_key(&self, content: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(content)
            .map_err(|_| self.wrong("must name a PEM file with a private key"))
    }

    /// The authorities in the file's content.
    fn authorities(&self, content: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
        let mut authorities = RootCertStore::empty();
        for certificate in self.certificates(content)? {
            authorities.add(certificate).map_err(|error| self.unfit(&error))?;
        }
        Ok(Arc::new(authorities))
    }

    /// An error of rustls, such as a key that does not match its certificate.
    fn unfit(&self, error: &rustls::Error) -> TlsError {
        self.wrong(format!("cannot be used: {error}"))
    }
}

/// The cryptography provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
