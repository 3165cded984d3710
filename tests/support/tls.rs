//! Certificates and TLS clients.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use tonic::transport::{Channel, Endpoint};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Own {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for names: hosts, addresses or URIs.
    pub fn issue(&self, names: &[&str]) -> Own {
        self.issue_until(names, 4000)
    }

    /// An expired certificate.
    pub fn issue_expired(&self, names: &[&str]) -> Own {
        self.issue_until(names, 2001)
    }

    fn issue_until(&self, names: &[&str], year: i32) -> Own {
        self.issue_for(names.iter().map(Self::name).collect(), year)
    }

    /// A certificate with a URI name, whatever its text.
    pub fn issue_uri(&self, uri: &str) -> Own {
        self.issue_for(vec![SanType::URI(uri.try_into().unwrap())], 4000)
    }

    fn name(name: &&str) -> SanType {
        match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if name.contains("://") => SanType::URI((*name).try_into().unwrap()),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        }
    }

    fn issue_for(&self, names: Vec<SanType>, year: i32) -> Own {
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.subject_alt_names = names;
        parameters.not_before = date_time_ymd(2000, 1, 1);
        parameters.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        Own { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The configuration of a client that trusts this authority.
    pub fn client(&self, own: Option<&Own>) -> ClientConfig {
        self.client_of(own, &[&TLS12, &TLS13])
    }

    /// The same for these versions of TLS only.
    pub fn client_of(
        &self,
        own: Option<&Own>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let Some(own) = own else { return builder.with_no_client_auth() };
        let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        builder.with_client_auth_cert(vec![certificate], key).unwrap()
    }
}

/// A folder of certificate files.
pub struct Files(tempfile::TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file atomically.
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(format!("{path}.new"), content).unwrap();
        std::fs::rename(format!("{path}.new"), &path).unwrap();
        path
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write_own(&self, name: &str, own: &Own) -> (String, String) {
        (
            self.write(&format!("{name}.pem"), &own.certificate),
            self.write(&format!("{name}.key"), &own.key),
        )
    }
}

/// Connects with TLS.
pub async fn connect(
    address: SocketAddr,
    mut config: ClientConfig,
    protocol: &str,
) -> io::Result<TlsStream<TcpStream>> {
    config.alpn_protocols = vec![protocol.into()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(address.ip().into(), stream).await
}

/// Sends one HTTP request over TLS, and returns the response.
pub async fn request(address: SocketAddr, config: ClientConfig, head: &str) -> io::Result<String> {
    let mut stream = connect(address, config, "http/1.1").await?;
    let request = format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A channel over TLS.
pub fn channel(address: SocketAddr, config: ClientConfig) -> Channel {
    // The connector speaks TLS, not the endpoint.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.origin(format!("https://{address}").parse().unwrap());
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let config = config.clone();
        async move { connect(address, config, "h2").await.map(TokioIo::new) }
    }))
}

/// A plaintext channel, and the number of its connections.
pub fn counted(address: SocketAddr) -> (Channel, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { TcpStream::connect(address).await.map(TokioIo::new) }
    }));
    (channel, made)
}
