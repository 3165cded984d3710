//! The files of certificates and private keys.

use std::{fs, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    self, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

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
pub struct FileError {
    /// The configuration key of the file.
    pub key: &'static str,
    /// The problem: the predicate of a sentence with the subject `key`.
    pub problem: String,
}

impl File {
    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self) -> Result<Vec<u8>, FileError> {
        let content = fs::read(&self.path);
        content.map_err(|error| self.wrong(format!("cannot be read: {}", error.kind())))
    }

    /// An error of this file. `problem` is the end of a sentence that begins with the key.
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> FileError {
        FileError { key: self.key, problem: problem.into() }
    }

    /// The certificates in the file's content, at least one.
    pub(super) fn certificates(
        &self,
        content: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
        let certificates = certificates.ok().filter(|certificates| !certificates.is_empty());
        certificates.ok_or_else(|| self.wrong("must name a PEM file with a certificate"))
    }

    /// The private key in the file's content.
    pub(super) fn private_key(&self, content: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
        PrivateKeyDer::from_pem_slice(content)
            .map_err(|_| self.wrong("must name a PEM file with a private key"))
    }

    /// The authorities in the file's content.
    pub(super) fn authorities(&self, content: &[u8]) -> Result<Arc<RootCertStore>, FileError> {
        let mut authorities = RootCertStore::empty();
        for certificate in self.certificates(content)? {
            authorities.add(certificate).map_err(|error| self.unfit(&error))?;
        }
        Ok(Arc::new(authorities))
    }

    /// An error of rustls, such as a key that does not match its certificate.
    pub(super) fn unfit(&self, error: &rustls::Error) -> FileError {
        self.wrong(format!("cannot be used: {error}"))
    }
}

/// The cryptography provider.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
