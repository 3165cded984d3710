//! Settings that all OTLP signals share, from the standard environment variables.

use std::{
    env, fs,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, SdkProvidedResourceDetector, TelemetryResourceDetector},
    trace::{IdGenerator, RandomIdGenerator},
};
use tokio::runtime::Handle;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::error::TelemetryError;

/// The service name, unless `OTEL_SERVICE_NAME` sets another.
const SERVICE_NAME: &str = "m4-user-details";
/// The schema URL of the semantic conventions that all names follow.
const CONVENTIONS: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Maximum size of a receiver's response, in bytes.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Export timeout, unless `OTEL_EXPORTER_OTLP_TIMEOUT` sets another.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// A telemetry signal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    /// The name in logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// The word in variable names.
    fn word(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }
}

/// The OTLP transport.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP, in protobuf.
    Http,
}

/// The protocol of a signal; `None` if the signal has no endpoint or is disabled.
///
/// # Errors
/// If the protocol is unknown.
pub(super) fn protocol(signal: Signal) -> Result<Option<Protocol>, TelemetryError> {
    let word = signal.word();
    let any = |name: &str| setting(signal, name);
    let is = |name: &str, word: &str| value(name).is_some_and(|own| own.eq_ignore_ascii_case(word));
    let off = is("OTEL_SDK_DISABLED", "true") || is(&format!("OTEL_{word}_EXPORTER"), "none");
    if off || any("ENDPOINT").is_none() {
        return Ok(None);
    }
    match any("PROTOCOL").as_deref() {
        None | Some("grpc") => Ok(Some(Protocol::Grpc)),
        Some("http/protobuf") => Ok(Some(Protocol::Http)),
        Some(_) => {
            let problem = "OTEL_EXPORTER_OTLP_PROTOCOL must be grpc or http/protobuf";
            Err(TelemetryError(problem.into()))
        }
    }
}

/// A setting of a signal's exporter, or else of all exporters.
fn setting(signal: Signal, name: &str) -> Option<String> {
    let own = value(&format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.word()));
    own.or_else(|| value(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// The client certificate and its key as PEM, if set.
fn identity(signal: Signal) -> Result<Option<[Vec<u8>; 2]>, TelemetryError> {
    let (certificate, key) = (file(signal, "CLIENT_CERTIFICATE")?, file(signal, "CLIENT_KEY")?);
    if certificate.is_some() != key.is_some() {
        let problem = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and …_CLIENT_KEY go together";
        return Err(TelemetryError(problem.into()));
    }
    Ok(certificate.zip(key).map(|(certificate, key)| [certificate, key]))
}

/// The content of the file that an exporter setting names.
fn file(signal: Signal, name: &str) -> Result<Option<Vec<u8>>, TelemetryError> {
    let read = |path| {
        fs::read(path).map_err(|error| {
            let problem = format!("OTEL_EXPORTER_OTLP_{name} cannot be read: {}", error.kind());
            TelemetryError(problem.into())
        })
    };
    setting(signal, name).map(read).transpose()
}

/// The TLS of a gRPC exporter; `None` if its endpoint is not `https://`.
///
/// # Errors
/// If a file cannot be read.
pub(super) fn grpc_tls(signal: Signal) -> Result<Option<ClientTlsConfig>, TelemetryError> {
    if !setting(signal, "ENDPOINT").is_some_and(|endpoint| endpoint.starts_with("https://")) {
        return Ok(None);
    }
    let mut tls = match file(signal, "CERTIFICATE")? {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().trust_anchors(webpki_roots::TLS_SERVER_ROOTS.to_vec()),
    };
    if let Some([certificate, key]) = identity(signal)? {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Ok(Some(tls))
}

/// An environment variable; an empty value counts as not set.
fn value(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The instrumentation scope.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SERVICE_NAME)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(CONVENTIONS)
        .build()
}

/// The resource that sends telemetry.
pub(super) fn resource() -> Resource {
    let own = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance().to_owned()),
    ];
    // The environment takes precedence.
    let mut resource = Resource::builder_empty().with_attributes(own).with_detectors(&[
        Box::new(SdkProvidedResourceDetector),
        Box::new(TelemetryResourceDetector),
        Box::new(EnvResourceDetector::new()),
    ]);
    let named = value("OTEL_RESOURCE_ATTRIBUTES")
        .is_some_and(|own| own.split(',').any(|one| one.trim_start().starts_with("service.name=")));
    if value("OTEL_SERVICE_NAME").is_none() && !named {
        resource = resource.with_service_name(SERVICE_NAME);
    }
    resource.build()
}

/// A random id of this process. Without the id, the telemetry of two replicas would mix.
fn instance() -> &'static str {
    static INSTANCE: OnceLock<String> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let random = RandomIdGenerator::default().new_trace_id().to_string();
        // In the format of a UUID version 4.
        format!(
            "{}-{}-4{}-a{}-{}",
            &random[..8],
            &random[8..12],
            &random[13..16],
            &random[17..20],
            &random[20..]
        )
    })
}

/// An HTTP(S) client. Exporter threads have no tokio runtime, so requests run on the creator's
/// runtime.
#[derive(Debug)]
struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    patience: Duration,
}

/// The client of an exporter over HTTP. Needs a tokio runtime.
///
/// # Errors
/// If TLS cannot be set up.
pub(super) fn http_client(signal: Signal) -> Result<impl HttpClient + 'static, TelemetryError> {
    let mut roots = RootCertStore::empty();
    match file(signal, "CERTIFICATE")? {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|error| TelemetryError(error.into()))?;
                roots.add(certificate).map_err(|error| TelemetryError(error.into()))?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let trust = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TelemetryError(error.into()))?
        .with_root_certificates(roots);
    let trust = match identity(signal)? {
        None => trust.with_no_client_auth(),
        Some([certificate, key]) => {
            let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>();
            let (chain, key) = chain
                .and_then(|chain| Ok((chain, PrivateKeyDer::from_pem_slice(&key)?)))
                .map_err(|error| TelemetryError(error.into()))?;
            trust.with_client_auth_cert(chain, key).map_err(|error| TelemetryError(error.into()))?
        }
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(trust).https_or_http();
    let client = Client::builder(TokioExecutor::new()).build(connector.enable_http1().build());
    let patience =
        setting(signal, "TIMEOUT").map(|text| text.parse()).transpose().map_err(|_| {
            TelemetryError("OTEL_EXPORTER_OTLP_TIMEOUT must be a number of milliseconds".into())
        })?;
    let patience = patience.map_or(EXPORT_TIMEOUT, Duration::from_millis);
    Ok(Poster { client, runtime: Handle::current(), patience })
}

#[async_trait]
impl HttpClient for Poster {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.client.request(request.map(Full::new));
        let exchange = async {
            let (parts, body) = sent.await?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        // `tokio::time::timeout` must run inside the runtime.
        let patience = self.patience;
        self.runtime.spawn(async move { tokio::time::timeout(patience, exchange).await }).await??
    }
}
