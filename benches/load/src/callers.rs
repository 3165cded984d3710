//! Callers of the service: over gRPC, and over HTTP as legacy clients.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    ops::Range,
    sync::Mutex,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use m4_user_details::proto::{
    Address, BatchUpdateUserDetailsRequest, General, GetUserDetailsRequest, ListUserDetailsRequest,
    UpdateUserDetailsRequest, UserDetails, UserDetailsFilter,
    user_details_service_client::UserDetailsServiceClient,
};
use serde::Serialize;
use sha1::{Digest, Sha1};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    measured::Run,
    users::{next_value, random_of},
};

/// Number of connections that gRPC callers share.
const CHANNELS: usize = 4;
/// Timeout for the last responses of a run.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The call to make, and its address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    /// `UpdateUserDetails`.
    Update(SocketAddr),
    /// `UpdateUserDetails` with one connection per caller, like legacy calls.
    UpdateApart(SocketAddr),
    /// `BatchUpdateUserDetails` of [`BATCH`] users.
    Batch(SocketAddr),
    /// The next page of a list.
    Page(SocketAddr, Listed),
    /// `GetUserDetails`.
    Get(SocketAddr),
    /// The health check: the cost of an empty call.
    Ping(SocketAddr),
    /// The legacy call.
    Legacy(SocketAddr),
}

impl Call {
    fn address(self) -> SocketAddr {
        match self {
            Self::Update(own)
            | Self::UpdateApart(own)
            | Self::Batch(own)
            | Self::Page(own, _)
            | Self::Get(own)
            | Self::Ping(own)
            | Self::Legacy(own) => own,
        }
    }

    /// Number of connections for `callers` callers over gRPC.
    fn connections(self, callers: usize) -> usize {
        if matches!(self, Self::UpdateApart(_)) { callers } else { CHANNELS.min(callers) }
    }
}

/// A list request. Every list contains all users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Listed {
    /// By username.
    ByUsername,
    /// By id.
    ById,
    /// Not hidden, by username.
    Visible,
    /// Updated since a time; all users have the same update time.
    Updated,
}

impl Listed {
    /// All lists.
    pub(crate) const ALL: [Self; 4] = [Self::ByUsername, Self::ById, Self::Visible, Self::Updated];

    fn request(self) -> ListUserDetailsRequest {
        let order_by = match self {
            Self::ByUsername | Self::Visible => "username".to_owned(),
            Self::ById | Self::Updated => String::new(),
        };
        let filter = UserDetailsFilter {
            hidden: (self == Self::Visible).then_some(false),
            updated_since: (self == Self::Updated).then(Default::default),
            ..UserDetailsFilter::default()
        };
        ListUserDetailsRequest {
            order_by,
            filter: Some(filter),
            acting_username: "admin".to_owned(),
            ..ListUserDetailsRequest::default()
        }
    }
}

/// Number of updates in a batch.
pub(crate) const BATCH: usize = 1000;

/// Send time and event arrival of each update, by city; `None` while nothing is recorded.
type Sent = HashMap<String, (Instant, Option<Instant>)>;
static SENT: Mutex<Option<Sent>> = Mutex::new(None);

/// Starts or stops recording send times. Returns the previous recording.
pub(crate) fn remember_sending(begin: bool) -> Sent {
    std::mem::replace(&mut *SENT.lock().unwrap(), begin.then(HashMap::new)).unwrap_or_default()
}

fn sending(value: u64) {
    if let Some(sent) = &mut *SENT.lock().unwrap() {
        sent.insert(format!("City {value}"), (Instant::now(), None));
    }
}

/// Records the arrival of an update's event.
pub(crate) fn arrived(city: &str) {
    if let Some(sent) = &mut *SENT.lock().unwrap() {
        let (_, arrived) = sent.get_mut(city).expect("a change is told that was stored before");
        assert!(arrived.is_none(), "a change was told twice");
        *arrived = Some(Instant::now());
    }
}

/// Runs `callers` in parallel for `time`. Each sends its next call when the response is there. The
/// callers are spread evenly over `calls`.
pub(crate) async fn run(calls: &[Call], callers: usize, users: i64, time: Duration) -> Run {
    run_on(calls, callers, 0..users, time).await
}

/// Like [`run`], on a range of users.
pub(crate) async fn run_on(
    calls: &[Call],
    callers: usize,
    users: Range<i64>,
    time: Duration,
) -> Run {
    let channels: Vec<Vec<Channel>> = calls
        .iter()
        .map(|call| channels(call.address(), call.connections(callers).div_ceil(calls.len())))
        .collect();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..callers {
        let (turn, replica) = (number / calls.len(), number % calls.len());
        let (call, channels) = (calls[replica], &channels[replica]);
        let channel = channels[turn % channels.len()].clone();
        let users = users.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut caller = Caller::new(call, channel).await;
            while begun.elapsed() < time {
                let id = random_of(&users);
                let sent = Instant::now();
                caller.call(id, &users).await;
                times.push(sent.elapsed());
            }
            times
        });
    }
    let times =
        timeout(time + RESPONSE_TIMEOUT, tasks.join_all()).await.expect("a call is not answered");
    Run::new(times.concat(), begun.elapsed())
}

/// gRPC channels; they connect on first use.
pub(crate) fn channels(address: SocketAddr, number: usize) -> Vec<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    (0..number).map(|_| endpoint.connect_lazy()).collect()
}

/// A caller with its connection.
enum Caller {
    Update(UserDetailsServiceClient<Channel>),
    Batch(UserDetailsServiceClient<Channel>),
    /// With the request for the next page.
    Page(UserDetailsServiceClient<Channel>, Box<ListUserDetailsRequest>),
    Get(UserDetailsServiceClient<Channel>),
    Ping(HealthClient<Channel>),
    Legacy(Legacy),
}

impl Caller {
    async fn new(call: Call, channel: Channel) -> Self {
        match call {
            Call::Update(_) | Call::UpdateApart(_) => {
                Self::Update(UserDetailsServiceClient::new(channel))
            }
            Call::Batch(_) => Self::Batch(UserDetailsServiceClient::new(channel)),
            Call::Page(_, listed) => {
                Self::Page(UserDetailsServiceClient::new(channel), Box::new(listed.request()))
            }
            Call::Get(_) => Self::Get(UserDetailsServiceClient::new(channel)),
            Call::Ping(_) => Self::Ping(HealthClient::new(channel)),
            Call::Legacy(address) => Self::Legacy(Legacy::connect(address).await),
        }
    }

    async fn call(&mut self, id: i64, users: &Range<i64>) {
        match self {
            Self::Update(client) => {
                client.update_user_details(update(id)).await.unwrap();
            }
            Self::Batch(client) => {
                let mut ids = BTreeSet::new();
                while ids.len() < BATCH {
                    ids.insert(random_of(users));
                }
                let one =
                    |id| UpdateUserDetailsRequest { acting_username: String::new(), ..update(id) };
                let request = BatchUpdateUserDetailsRequest {
                    requests: ids.into_iter().map(one).collect(),
                    acting_username: "admin".to_owned(),
                    ..BatchUpdateUserDetailsRequest::default()
                };
                client.batch_update_user_details(request).await.unwrap();
            }
            Self::Page(client, request) => {
                let page = client.list_user_details((**request).clone()).await.unwrap();
                request.page_token = page.into_inner().next_page_token;
            }
            Self::Get(client) => {
                client.get_user_details(read(id)).await.unwrap();
            }
            Self::Ping(client) => {
                client.check(HealthCheckRequest::default()).await.unwrap();
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
                let (status, body) = connection.call(&target).await;
                assert!(status == 200 && body.contains("successfully"), "{status} {body}");
            }
        }
    }
}

/// A read request.
pub(crate) fn read(user_id: i64) -> GetUserDetailsRequest {
    GetUserDetailsRequest { user_id, acting_username: "admin".to_owned() }
}

/// An update request for three fields.
pub(crate) fn update(user_id: i64) -> UpdateUserDetailsRequest {
    let value = next_value();
    sending(value);
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(UserDetails {
            general: Some(Box::new(General {
                call_limit: i32::try_from(value % 1_000_000).ok(),
                hidden: Some(value.is_multiple_of(2)),
                ..General::default()
            })),
            address: Some(Box::new(Address {
                city: Some(format!("City {value}")),
                ..Address::default()
            })),
            ..UserDetails::default()
        }),
        acting_username: "admin".to_owned(),
        ..UpdateUserDetailsRequest::default()
    }
}

/// The connection of a legacy client.
pub(crate) struct Legacy(SendRequest<Empty<bytes::Bytes>>);

impl Legacy {
    /// Connects to the gateway.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(connect(address).await)
    }

    /// The HTTP status and the body of a call.
    pub(crate) async fn call(&mut self, target: &str) -> (u16, String) {
        send(&mut self.0, http::Method::POST, target).await
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
    get(address, "/readyz").await == 200
}

/// The HTTP status of a GET request.
pub(crate) async fn get(address: SocketAddr, path: &str) -> u16 {
    send(&mut connect(address).await, http::Method::GET, path).await.0
}
