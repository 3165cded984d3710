//! Callers of the service: over gRPC, and over HTTP as legacy clients.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use m4_user_details::proto::{
    Address, General, GetUserDetailsRequest, UpdateUserDetailsRequest, UserDetails,
    user_details_service_client::UserDetailsServiceClient,
};
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// The first id of the users that are changed.
pub(crate) const FIRST_ID: i64 = 1001;
/// How many connections callers over gRPC share.
const CHANNELS: usize = 4;

/// What one run of a path measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// How many calls were answered in each second.
    pub(crate) rate: f64,
    /// The time of each call.
    pub(crate) times: Vec<Duration>,
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    /// `UpdateUserDetails` at this address.
    Update(SocketAddr),
    /// `GetUserDetails` at this address.
    Get(SocketAddr),
    /// The legacy call at this address.
    Legacy(SocketAddr),
}

/// The values of the next update: every one is new, so that every update changes something.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A new value for each update.
pub(crate) fn next_value() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs `callers` at once for a time, each with its next call as soon as it has the answer.
pub(crate) async fn run(call: Call, callers: usize, users: i64, time: Duration) -> Run {
    let channels: Vec<Channel> = match call {
        Call::Update(address) | Call::Get(address) => {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            (0..CHANNELS.min(callers)).map(|_| endpoint.connect_lazy()).collect()
        }
        Call::Legacy(_) => Vec::new(),
    };
    let channels = Arc::new(channels);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|number| {
            let channels = Arc::clone(&channels);
            tokio::spawn(async move {
                let mut times = Vec::new();
                let mut caller = Caller::new(call, &channels, number).await;
                while begun.elapsed() < time {
                    let id = FIRST_ID + rand::random_range(0..users);
                    let sent = Instant::now();
                    caller.call(id).await;
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let seconds = begun.elapsed().as_secs_f64();
    Run { rate: count(times.len()) / seconds, times }
}

/// A number of things, for a rate.
pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

enum Caller {
    Update(UserDetailsServiceClient<Channel>),
    Get(UserDetailsServiceClient<Channel>),
    Legacy(SendRequest<Empty<bytes::Bytes>>),
}

impl Caller {
    async fn new(call: Call, channels: &[Channel], number: usize) -> Self {
        let client = || UserDetailsServiceClient::new(channels[number % channels.len()].clone());
        match call {
            Call::Update(_) => Self::Update(client()),
            Call::Get(_) => Self::Get(client()),
            Call::Legacy(address) => Self::Legacy(connect(address).await),
        }
    }

    async fn call(&mut self, id: i64) {
        match self {
            Self::Update(client) => {
                client.update_user_details(update(id)).await.unwrap();
            }
            Self::Get(client) => {
                let request =
                    GetUserDetailsRequest { user_id: id, acting_username: "admin".to_owned() };
                client.get_user_details(request).await.unwrap();
            }
            Self::Legacy(connection) => {
                let (value, hash) =
                    (next_value(), hex::encode(Sha1::digest(format!("admin{id}secret"))));
                let target = format!(
                    "/billing/api/user_details_update?u=admin&user_id={id}&hash={hash}&city=City+{value}\
                     &call_limit={}&hidden={}",
                    value % 1_000_000,
                    value % 2
                );
                let (status, body) = send(connection, http::Method::POST, &target).await;
                assert!(status == 200 && body.contains("successfully"), "{status} {body}");
            }
        }
    }
}

/// An update of three fields.
fn update(user_id: i64) -> UpdateUserDetailsRequest {
    let value = next_value();
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(UserDetails {
            general: Some(General {
                call_limit: i32::try_from(value % 1_000_000).ok(),
                hidden: Some(value.is_multiple_of(2)),
                ..General::default()
            }),
            address: Some(Address { city: Some(format!("City {value}")), ..Address::default() }),
            ..UserDetails::default()
        }),
        acting_username: "admin".to_owned(),
        ..UpdateUserDetailsRequest::default()
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<bytes::Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(
    connection: &mut SendRequest<Empty<bytes::Bytes>>,
    method: http::Method,
    target: &str,
) -> (u16, String) {
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .header("host", "load")
        .body(Empty::new())
        .unwrap();
    let answer = connection.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Whether a service is ready.
pub(crate) async fn is_ready(address: SocketAddr) -> bool {
    send(&mut connect(address).await, http::Method::GET, "/readyz").await.0 == 200
}
