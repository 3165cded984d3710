//! Client TLS: from the gateway to its upstream, and for the health check.

use std::sync::Arc;

use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    file::{File, FileError, provider},
    listener::ServerFiles,
    reloading::Source,
};

/// The files for TLS from the gateway to its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that issue the upstream's certificate.
    pub authorities: File,
    /// The gateway's certificate and private key.
    pub own: Option<(File, File)>,
}

impl Source for ClientFiles {
    const NAME: &'static str = "certificates";
    type Made = ClientConfig;

    fn files(&self) -> Vec<&File> {
        let own = self.own.iter().flat_map(|(certificate, key)| [certificate, key]);
        std::iter::once(&self.authorities).chain(own).collect()
    }

    fn make(&self, contents: &[Vec<u8>]) -> Result<ClientConfig, FileError> {
        let content = |index: usize| contents.get(index).map_or(&[][..], Vec::as_slice);
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| self.authorities.unfit(&error))?
            .with_root_certificates(self.authorities.authorities(content(0))?);
        let mut made = match &self.own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificates = certificate.certificates(content(1))?;
                let own = builder.with_client_auth_cert(certificates, key.private_key(content(2))?);
                own.map_err(|error| key.unfit(&error))?
            }
        };
        made.alpn_protocols = vec![b"h2".to_vec()];
        Ok(made)
    }
}

/// The health check's client for its own listener. The client does not verify the certificate. If
/// the listener requests client certificates, the client presents the listener's certificate.
pub(crate) fn healthcheck_client_config(listener: &ServerFiles) -> Result<ClientConfig, FileError> {
    let (certificate, key) = (&listener.certificate, &listener.key);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| certificate.unfit(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider())));
    if listener.clients.is_none() {
        return Ok(builder.with_no_client_auth());
    }
    let own = certificate.certificates(&certificate.read()?)?;
    let made = builder.with_client_auth_cert(own, key.private_key(&key.read()?)?);
    made.map_err(|error| key.unfit(&error))
}

#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
