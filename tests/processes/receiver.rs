//! An OTLP receiver over gRPC and HTTP.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Path, routing::post};
use bytes::Bytes;
use http::HeaderMap;
use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, Span},
};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};
use tonic::{
    Request, Response, Status, codec::CompressionEncoding::Gzip, metadata::MetadataMap,
    service::Routes, transport::server::TcpIncoming,
};
use tower::ServiceExt;

use crate::support::tls::{Authority, Own};

/// An OTLP receiver.
#[derive(Clone, Default)]
pub struct Receiver(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    schemas: Vec<String>,
    logs: Vec<(String, LogRecord)>,
    metrics: Vec<Metric>,
    senders: BTreeMap<&'static str, Sender>,
}

/// The last sender of a signal.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The attributes of the resource.
    pub resource: Vec<KeyValue>,
}

/// The points of a metric: each has all its attributes, and a count or value.
pub type Points = BTreeMap<BTreeMap<String, String>, u64>;

/// Attributes, as in [`Points`].
pub fn attributes(own: &[(&str, &str)]) -> BTreeMap<String, String> {
    own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Receiver {
    /// Receives over gRPC.
    pub async fn start() -> (Self, SocketAddr) {
        let receiver = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_routes(receiver.services());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (receiver, address)
    }

    /// Receives over HTTP.
    pub async fn start_http() -> (Self, SocketAddr) {
        let (receiver, routes) = Self::routes();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (receiver, address)
    }

    /// Receives over gRPC or HTTP, with TLS, from clients with a certificate of an authority.
    pub async fn start_tls(own: &Own, clients: &Authority, http: bool) -> (Self, SocketAddr) {
        let (receiver, routes) = Self::routes();
        let routes = if http { routes } else { receiver.services().into_axum_router() };
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![certificate], key)
            .unwrap();
        if !http {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, routes) = (acceptor.clone(), routes.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let (service, stream) =
                        (TowerToHyperService::new(routes), TokioIo::new(stream));
                    if http {
                        let _ = http1::Builder::new().serve_connection(stream, service).await;
                    } else {
                        let http = http2::Builder::new(TokioExecutor::new());
                        let _ = http.serve_connection(stream, service).await;
                    }
                });
            }
        });
        (receiver, address)
    }

    /// The OTLP services over gRPC.
    fn services(&self) -> Routes {
        Routes::new(TraceServiceServer::new(self.clone()).accept_compressed(Gzip))
            .add_service(LogsServiceServer::new(self.clone()).accept_compressed(Gzip))
            .add_service(MetricsServiceServer::new(self.clone()).accept_compressed(Gzip))
    }

    /// A receiver and its routes for OTLP over HTTP, which forward to the gRPC services.
    fn routes() -> (Self, Router) {
        let receiver = Self::default();
        let services = receiver.services().into_axum_router();
        let hand_on = async move |Path(signal): Path<String>, headers: HeaderMap, body: Bytes| {
            let service = match &*signal {
                "traces" => "trace.v1.TraceService",
                "logs" => "logs.v1.LogsService",
                "metrics" => "metrics.v1.MetricsService",
                other => panic!("{other} is no signal"),
            };
            let path = format!("/opentelemetry.proto.collector.{service}/Export");
            let mut request = http::Request::post(path);
            *request.headers_mut().unwrap() = headers;
            let headers = request.headers_mut().unwrap();
            assert_eq!(headers.remove("content-type").unwrap(), "application/x-protobuf");
            headers.insert("content-type", "application/grpc".parse().unwrap());
            let encoding = headers.remove("content-encoding");
            let mut frame = vec![u8::from(encoding.is_some())];
            encoding.map(|encoding| headers.insert("grpc-encoding", encoding));
            frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
            frame.extend(body);
            let request = request.body(Body::from(frame)).unwrap();
            let answer = services.clone().oneshot(request).await;
            // A successful call has its status in the trailers.
            assert_eq!(answer.unwrap().headers().get("grpc-status"), None);
        };
        (receiver, Router::new().route("/v1/{signal}", post(hand_on)))
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().spans.clone()
    }

    /// The spans of a trace so far.
    pub fn spans_of(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| hex::encode(&span.trace_id) == trace);
        spans
    }

    /// The schema URLs so far.
    pub fn schemas(&self) -> Vec<String> {
        self.0.lock().unwrap().schemas.clone()
    }

    /// The log records so far, with their targets.
    pub fn logs(&self) -> Vec<(String, LogRecord)> {
        self.0.lock().unwrap().logs.clone()
    }

    /// The metrics of the last export.
    pub fn metrics(&self) -> Vec<Metric> {
        self.0.lock().unwrap().metrics.clone()
    }

    /// The points of a metric in the last export; empty without the metric.
    pub fn points(&self, name: &str) -> Points {
        let mut points = Points::new();
        let mut add = |own: &[KeyValue], count| {
            let value = |own: &KeyValue| text(own.value.as_ref().unwrap()).unwrap();
            let by_key: BTreeMap<_, _> =
                own.iter().map(|own| (own.key.clone(), value(own))).collect();
            assert_eq!(by_key.len(), own.len(), "an attribute stands twice: {own:?}");
            assert_eq!(points.insert(by_key, count), None, "a point stands twice: {own:?}");
        };
        for metric in self.metrics().into_iter().filter(|metric| metric.name == name) {
            let numbers = match metric.data.unwrap() {
                Data::Histogram(histogram) => {
                    let points = histogram.data_points.iter();
                    points.for_each(|point| add(&point.attributes, point.count));
                    continue;
                }
                Data::Sum(sum) => sum.data_points,
                Data::Gauge(gauge) => gauge.data_points,
                other => panic!("{name} is {other:?}"),
            };
            for point in numbers {
                let Some(number_data_point::Value::AsInt(number)) = point.value else {
                    panic!("{name} has {point:?}");
                };
                add(&point.attributes, u64::try_from(number).unwrap());
            }
        }
        points
    }

    /// The points of a counter or a histogram with at least one event.
    pub fn happened(&self, name: &str) -> Points {
        let mut points = self.points(name);
        points.retain(|_, count| *count > 0);
        points
    }

    /// The last sender of a signal, `traces`, `metrics` or `logs`, if any.
    pub fn sender(&self, signal: &str) -> Option<Sender> {
        self.0.lock().unwrap().senders.get(signal).cloned()
    }

    /// Waits until `find` returns a value.
    pub async fn wait_for<T>(&self, find: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..3000 {
            if let Some(found) = find(self) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it has not come: {:?} {:?}", self.spans(), self.logs());
    }

    fn take_sender(
        &self,
        signal: &'static str,
        metadata: MetadataMap,
        mut resources: impl Iterator<Item = Option<Resource>>,
    ) {
        let resource = resources.next().flatten().unwrap_or_default().attributes;
        let sender = Sender { headers: metadata.into_headers(), resource };
        self.0.lock().unwrap().senders.insert(signal, sender);
    }

    fn take_spans(&self, resources: Vec<ResourceSpans>) {
        let mut received = self.0.lock().unwrap();
        for scope in resources.into_iter().flat_map(|resource| resource.scope_spans) {
            received.schemas.push(scope.schema_url);
            received.spans.extend(scope.spans);
        }
    }

    /// Each export contains all metrics.
    fn take_metrics(&self, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|own| own.scope_metrics);
        self.0.lock().unwrap().metrics = scopes.flat_map(|scope| scope.metrics).collect();
    }

    fn take_logs(&self, request: ExportLogsServiceRequest) {
        let mut received = self.0.lock().unwrap();
        let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
        for scope in scopes {
            let target = scope.scope.unwrap_or_default().name;
            received.logs.extend(scope.log_records.into_iter().map(|log| (target.clone(), log)));
        }
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let resources = request.resource_spans.iter().map(|own| own.resource.clone());
        self.take_sender("traces", metadata, resources);
        self.take_spans(request.resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let resources = request.resource_logs.iter().map(|own| own.resource.clone());
        self.take_sender("logs", metadata, resources);
        self.take_logs(request);
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let resources = request.resource_metrics.iter().map(|own| own.resource.clone());
        self.take_sender("metrics", metadata, resources);
        self.take_metrics(request);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// An attribute of a span.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    attribute_of(&span.attributes, key)
}

/// An attribute value with its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl std::fmt::Display for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Number(number) => number.fmt(formatter),
        }
    }
}

impl From<&str> for Told {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Told {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// All attributes of a span.
pub fn told(span: &Span) -> BTreeMap<&str, Told> {
    let typed = |own: &KeyValue| match own.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => Told::Text(text.clone()),
        Value::IntValue(number) => Told::Number(*number),
        other => panic!("{} is {other:?}", own.key),
    };
    let told: BTreeMap<_, _> = span.attributes.iter().map(|own| (&*own.key, typed(own))).collect();
    assert_eq!(told.len(), span.attributes.len(), "an attribute stands twice: {span:?}");
    told
}

/// The attributes of a database, from its URL: its name and address.
pub fn named(url: &str) -> Vec<(&'static str, Told)> {
    if url.starts_with("sqlite:") {
        return Vec::new();
    }
    let url: http::Uri = url.parse().unwrap();
    let usual = if url.scheme_str() == Some("postgres") { 5432 } else { 3306 };
    let mut named = vec![
        ("db.namespace", url.path().trim_start_matches('/').into()),
        ("server.address", url.host().unwrap().into()),
    ];
    let port = url.port_u16().filter(|port| *port != usual);
    named.extend(port.map(|port| ("server.port", i64::from(port).into())));
    named
}

/// Finds an attribute by its key.
pub fn attribute_of(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|own| own.key == key)?;
    text(found.value.as_ref()?)
}

/// A value as text.
pub fn text(value: &AnyValue) -> Option<String> {
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
