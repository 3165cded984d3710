//! Healthy clients: they update over gRPC and HTTP at a steady rate and record the outcomes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use m4_user_details::proto::user_details_service_client::UserDetailsServiceClient;
use tokio::{
    task::JoinHandle,
    time::{Instant, interval, timeout},
};
use tokio_rustls::rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tower::{Service, service_fn};

use crate::{
    support::{
        app::{set_city, target},
        tls::Authority,
    },
    victim::Victim,
};

/// The address of healthy clients. Attackers use others.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Interval between calls. A debug build can keep up with it beside an attack on two cores.
const INTERVAL: Duration = Duration::from_millis(50);
/// Timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Slower calls count as failed.
const SLOW: Duration = Duration::from_secs(1);
/// The paths of the admin listener.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// The percentage of calls that must be correct and fast.
const GOOD_PERCENT: usize = 99;

/// The outcomes of one caller's calls.
#[derive(Default)]
struct Calls {
    total: usize,
    slow: usize,
    wrong: Vec<String>,
    slowest: Duration,
}

impl Calls {
    /// Records a call from its due time: a delayed caller also delays its next calls.
    fn add(&mut self, due: Instant, answer: Result<(), String>) {
        let took = due.elapsed();
        self.total += 1;
        self.slowest = self.slowest.max(took);
        match answer {
            Err(wrong) => self.wrong.push(wrong),
            Ok(()) if took > SLOW => self.slow += 1,
            Ok(()) => {}
        }
    }

    fn check(&self, name: &str) {
        let good = self.total - self.slow - self.wrong.len();
        eprintln!("{name}: {good} of {} calls are good, slowest {:?}", self.total, self.slowest);
        let first: Vec<_> = self.wrong.iter().take(3).collect();
        assert!(
            good * 100 >= self.total * GOOD_PERCENT && self.total > 0,
            "{name}: of {} calls {} are slow (slowest {:?}) and {} wrong: {first:?}",
            self.total,
            self.slow,
            self.slowest,
            self.wrong.len()
        );
    }

    /// Checks that calls were answered within [`CALL_TIMEOUT`].
    fn check_answered(&self, name: &str) {
        let answered = self.total - self.wrong.len();
        eprintln!("{name}: {answered} of {} calls are answered, {} slow", self.total, self.slow);
        let first: Vec<_> = self.wrong.iter().take(3).collect();
        assert!(
            answered * 100 >= self.total * GOOD_PERCENT && self.total > 0,
            "{name}: of {} calls {} are wrong: {first:?}",
            self.total,
            self.wrong.len()
        );
    }
}

/// How healthy clients call the program.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token of gRPC calls.
    pub token: Option<&'static str>,
    /// TLS on both listeners; `None` is plain text.
    pub tls: Option<ClientConfig>,
}

impl Access {
    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// Connects from [`ADDRESS`], with TLS if the scheme of the URL is `https`.
    fn connector(&self, protocol: &str) -> HttpsConnector<HttpConnector> {
        let mut tcp = tcp_connector();
        tcp.enforce_http(false);
        let mut tls = self.tls.clone().unwrap_or_else(|| Authority::new().client(None));
        tls.alpn_protocols = vec![protocol.into()];
        HttpsConnector::from((tcp, Arc::new(tls)))
    }
}

fn tcp_connector() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_local_address(Some(ADDRESS));
    // HTTP/2 writes small frames.
    tcp.set_nodelay(true);
    tcp
}

/// A caller over gRPC and a caller over HTTP.
pub struct Healthy {
    stop: CancellationToken,
    grpc: JoinHandle<Calls>,
    http: JoinHandle<Calls>,
}

impl Healthy {
    /// Starts the calls.
    pub fn start(victim: &Victim) -> Self {
        let stop = CancellationToken::new();
        let (grpc, http) = (Grpc::new(victim), Http::new(victim));
        let grpc = call_until(&stop, move |number| grpc.clone().update(number));
        let http = call_until(&stop, move |number| http.clone().update(number));
        Self { stop, grpc, http }
    }

    /// Stops the calls and checks only that they were answered: the attackers and the program share
    /// the processors.
    pub async fn check_answered(self) {
        self.stop.cancel();
        self.grpc.await.unwrap().check_answered("gRPC");
        self.http.await.unwrap().check_answered("HTTP");
    }

    /// Stops the calls, checks their outcomes, and lets a new client call the listeners.
    pub async fn check(self, victim: &Victim) {
        self.stop.cancel();
        self.grpc.await.unwrap().check("gRPC");
        self.http.await.unwrap().check("HTTP");
        check_new_client(victim).await;
    }
}

/// Calls at a steady rate until `stop`. `call` gets the number of the call.
fn call_until<F: Future<Output = Result<(), String>> + Send>(
    stop: &CancellationToken,
    call: impl Fn(usize) -> F + Send + 'static,
) -> JoinHandle<Calls> {
    let stopped = stop.clone();
    tokio::spawn(async move {
        let (mut calls, mut ticks) = (Calls::default(), interval(INTERVAL));
        while !stopped.is_cancelled() {
            let due = ticks.tick().await;
            let answer = call(calls.total).await;
            calls.add(due, answer);
        }
        calls
    })
}

/// A prober: it reads the paths of the admin listener in turn, each on a new connection.
pub struct Prober {
    stop: CancellationToken,
    probes: JoinHandle<Calls>,
}

impl Prober {
    /// Starts the probes.
    pub fn start(victim: &Victim) -> Self {
        let stop = CancellationToken::new();
        let address = victim.program.admin.unwrap();
        let probes = call_until(&stop, move |number| probe(address, PROBES[number % PROBES.len()]));
        Self { stop, probes }
    }

    /// Stops the probes, and checks their outcomes.
    pub async fn check(self) {
        self.stop.cancel();
        self.probes.await.unwrap().check("admin");
    }
}

/// Reads a path of the admin listener on a new connection. Like any client, retries once if the
/// connection was closed.
async fn probe(address: SocketAddr, path: &'static str) -> Result<(), String> {
    let url: Uri = format!("http://{address}{path}").parse().unwrap();
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(tcp_connector());
    let call = async {
        match client.get(url.clone()).await {
            Err(_) => client.get(url).await,
            response => response,
        }
    };
    let response = timeout(CALL_TIMEOUT, call).await.map_err(|_| "no answer".to_owned())?;
    let status = response.map_err(|error| format!("{path}: {error:?}"))?.status();
    if status == StatusCode::OK { Ok(()) } else { Err(format!("{path}: {status}")) }
}

/// Calls both listeners and a probe as a new client, and checks that the calls are fast.
pub async fn check_new_client(victim: &Victim) {
    let begun = Instant::now();
    call_as_new_client(victim).await;
    assert!(begun.elapsed() < SLOW * 3 / 2, "{:?}", begun.elapsed());
}

/// Calls both listeners and a probe as a new client.
pub async fn call_as_new_client(victim: &Victim) {
    Grpc::new(victim).update(0).await.unwrap();
    Http::new(victim).update(0).await.unwrap();
    let ready = timeout(CALL_TIMEOUT, victim.program.ask_admin("/readyz")).await.unwrap();
    assert_eq!(ready.status, StatusCode::OK, "{}", ready.body);
}

#[derive(Clone)]
struct Grpc {
    users: UserDetailsServiceClient<Channel>,
    token: Option<&'static str>,
}

impl Grpc {
    fn new(victim: &Victim) -> Self {
        let (address, access) = (victim.program.grpc.unwrap(), &victim.access);
        let (mut connector, url) = (access.connector("h2"), access.url(address));
        let url: Uri = url.parse().unwrap();
        // The connector speaks TLS, not the endpoint.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let connect = {
            let url = url.clone();
            service_fn(move |_: Uri| connector.call(url.clone()))
        };
        let channel = endpoint.origin(url).connect_with_connector_lazy(connect);
        Self { users: UserDetailsServiceClient::new(channel), token: access.token }
    }

    /// Updates alice. Like any client, retries once if the connection was closed.
    async fn update(mut self, number: usize) -> Result<(), String> {
        let city = format!("City {number}");
        let call = async {
            let answer = self.send(&city).await;
            match answer {
                Err(status) if is_of_connection(&status) => self.send(&city).await,
                answer => answer,
            }
        };
        let answer = timeout(CALL_TIMEOUT, call).await.map_err(|_| "no answer".to_owned())?;
        let stored = answer.map_err(|status| format!("{status:?}"))?;
        if stored == city { Ok(()) } else { Err(format!("{stored} instead of {city}")) }
    }

    async fn send(&mut self, city: &str) -> Result<String, tonic::Status> {
        let mut update = set_city(3, city);
        update.acting_username = "admin".to_owned();
        let mut request = tonic::Request::new(update);
        if let Some(token) = self.token {
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
        }
        let answer = self.users.update_user_details(request).await?.into_inner();
        let address = answer.user_details.and_then(|details| details.address);
        Ok(address.and_then(|address| address.city).unwrap_or_default())
    }
}

/// Whether a call failed because of its connection.
fn is_of_connection(status: &tonic::Status) -> bool {
    let is_error = std::error::Error::source(status).is_some();
    is_error && matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown)
}

#[derive(Clone)]
struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
}

impl Http {
    fn new(victim: &Victim) -> Self {
        let connector = victim.access.connector("http/1.1");
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, url: victim.access.url(victim.program.http) }
    }

    /// Updates bob. Like any client, retries once if the connection was closed.
    async fn update(self, number: usize) -> Result<(), String> {
        let target = target("admin", "4", &format!("phone={number}"));
        let call = async {
            match self.send(&target).await {
                Err(_) => self.send(&target).await,
                answer => answer,
            }
        };
        let answer = timeout(CALL_TIMEOUT, call).await.map_err(|_| "no answer".to_owned())?;
        let (status, body) = answer?;
        let is_right = status == StatusCode::OK && body.contains("successfully");
        if is_right { Ok(()) } else { Err(format!("{status} {body}")) }
    }

    async fn send(&self, target: &str) -> Result<(StatusCode, String), String> {
        let url = format!("{}{target}", self.url);
        let request = Request::builder().method(Method::POST).uri(url);
        let request = request.body(Full::default()).unwrap();
        let answer = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| format!("{error:?}"))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    }
}
