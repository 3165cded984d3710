//! An OTLP receiver: over gRPC, and over HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, routing::post};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
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
    metrics::v1::Metric,
    trace::v1::{ResourceSpans, Span},
};
use prost::Message;
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tonic::{
    Request, Response, Status, codec::CompressionEncoding::Gzip, transport::server::TcpIncoming,
};

use crate::support::tls::Own;

/// An OTLP receiver.
#[derive(Clone, Default)]
pub struct Receiver(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    schemas: Vec<String>,
    logs: Vec<(String, LogRecord)>,
    metrics: Vec<Metric>,
}

impl Receiver {
    /// Receives over gRPC.
    pub async fn start() -> (Self, SocketAddr) {
        let receiver = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(receiver.clone()).accept_compressed(Gzip))
            .add_service(LogsServiceServer::new(receiver.clone()).accept_compressed(Gzip))
            .add_service(MetricsServiceServer::new(receiver.clone()).accept_compressed(Gzip));
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

    /// Receives over HTTPS.
    pub async fn start_https(own: &Own) -> (Self, SocketAddr) {
        let (receiver, routes) = Self::routes();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, routes) = (acceptor.clone(), routes.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = TowerToHyperService::new(routes);
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        (receiver, address)
    }

    /// A receiver, and the routes of OTLP over HTTP to it.
    fn routes() -> (Self, Router) {
        let receiver = Self::default();
        let spans = async |State(receiver): State<Self>, body: Bytes| {
            receiver.take_spans(ExportTraceServiceRequest::decode(body).unwrap().resource_spans);
        };
        let logs = async |State(receiver): State<Self>, body: Bytes| {
            receiver.take_logs(ExportLogsServiceRequest::decode(body).unwrap());
        };
        let metrics = async |State(receiver): State<Self>, body: Bytes| {
            receiver.take_metrics(ExportMetricsServiceRequest::decode(body).unwrap());
        };
        let routes = Router::new()
            .route("/v1/traces", post(spans))
            .route("/v1/logs", post(logs))
            .route("/v1/metrics", post(metrics))
            .with_state(receiver.clone());
        (receiver, routes)
    }

    /// The spans until now.
    pub fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().spans.clone()
    }

    /// The spans of a trace until now.
    pub fn spans_of(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| hex::encode(&span.trace_id) == trace);
        spans
    }

    /// The schemas of what has come until now.
    pub fn schemas(&self) -> Vec<String> {
        self.0.lock().unwrap().schemas.clone()
    }

    /// The lines of the log until now, with their targets.
    pub fn logs(&self) -> Vec<(String, LogRecord)> {
        self.0.lock().unwrap().logs.clone()
    }

    /// The metrics that came last.
    pub fn metrics(&self) -> Vec<Metric> {
        self.0.lock().unwrap().metrics.clone()
    }

    /// Waits until something has come.
    pub async fn wait_for<T>(&self, find: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..3000 {
            if let Some(found) = find(self) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it has not come: {:?} {:?}", self.spans(), self.logs());
    }

    fn take_spans(&self, resources: Vec<ResourceSpans>) {
        let mut received = self.0.lock().unwrap();
        for scope in resources.into_iter().flat_map(|resource| resource.scope_spans) {
            received.schemas.push(scope.schema_url);
            received.spans.extend(scope.spans);
        }
    }

    /// Each export has all of them anew.
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
        self.take_spans(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.take_logs(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.take_metrics(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// An attribute of a span.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    attribute_of(&span.attributes, key)
}

/// One of some attributes.
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
