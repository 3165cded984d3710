//! Writers: each sends one update after another, with unique values.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use m4_user_details::proto::{
    GetUserDetailsRequest, UpdateUserDetailsRequest,
    user_details_service_client::UserDetailsServiceClient,
};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    checker::{Attempt, Outcome},
    program::Program,
    support::app::{send, set_city, target},
};

/// Minimum interval between updates of a writer: the servers need the machine, too.
const PACE: Duration = Duration::from_millis(50);
/// How long after its deadline the service may answer.
const ANSWER_SLACK: Duration = Duration::from_secs(10);
/// The first id of the writers' users.
pub const FIRST_USER: i64 = 1001;
/// The number of writers with a user of their own. The other writers share users.
const OWN_USERS: usize = 8;
/// The number of writers: each entry point is used on both replicas, with both kinds of users.
pub const WRITERS: usize = 16;
/// The last id of the writers' users.
pub const LAST_USER: i64 = FIRST_USER + 9;

/// The addresses of a service replica.
#[derive(Clone, Copy, Debug)]
pub struct Replica {
    pub grpc: SocketAddr,
    http: SocketAddr,
}

impl Replica {
    pub fn of(program: &Program) -> Self {
        Self { grpc: program.grpc.unwrap(), http: program.http }
    }

    /// A gRPC client.
    pub fn users(self) -> UserDetailsServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        UserDetailsServiceClient::new(endpoint.connect_lazy())
    }
}

/// How a writer sends its updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Grpc,
    /// With a request id: retried, on both replicas in turn, until the service answers.
    Repeated,
    Legacy,
}

/// A writer.
pub struct Writer {
    number: usize,
    user_id: i64,
    entry: Entry,
    /// The index of its replica.
    replica: usize,
    replicas: Vec<Replica>,
    users: Vec<UserDetailsServiceClient<Channel>>,
    http: Client<HttpConnector, Full<Bytes>>,
    answer_timeout: Duration,
    /// Whether two servers accept writes at present: a read may return old data.
    split_brain: Arc<AtomicBool>,
    sent: u64,
}

impl Writer {
    /// The writer with a number below [`WRITERS`], on one of two replicas.
    pub fn new(
        number: usize,
        replicas: &[Replica],
        deadline: Duration,
        split_brain: Arc<AtomicBool>,
    ) -> Self {
        let entry = [Entry::Grpc, Entry::Repeated, Entry::Legacy][number / 2 % 3];
        let shared = usize::from(number >= OWN_USERS) * (OWN_USERS + number % 4 / 2);
        let user = if number < OWN_USERS { number } else { shared };
        Self {
            number,
            user_id: FIRST_USER + i64::try_from(user).unwrap(),
            entry,
            replica: number % replicas.len(),
            replicas: replicas.to_vec(),
            users: replicas.iter().map(|replica| replica.users()).collect(),
            http: Client::builder(TokioExecutor::new()).build_http(),
            answer_timeout: deadline + ANSWER_SLACK,
            split_brain,
            sent: 0,
        }
    }

    /// A gRPC writer on an additional replica. It shares the user of an earlier writer.
    pub fn on_another(number: usize, replica: Replica, index: usize, deadline: Duration) -> Self {
        let writer = Self::new(number % OWN_USERS, &[replica], deadline, Arc::default());
        Self { number, entry: Entry::Grpc, replica: index, ..writer }
    }

    /// Sends one update, and returns its outcome.
    pub async fn update(&mut self) -> Attempt {
        let value = format!("w{}-{:06}", self.number, self.sent);
        self.sent += 1;
        let (user_id, begun) = (self.user_id, Instant::now());
        let mut replica = self.replica;
        let mut request = set_city(user_id, &value);
        let outcome = match self.entry {
            Entry::Legacy => self.call(&value).await,
            Entry::Grpc => self.grpc(replica, request).await,
            Entry::Repeated => {
                request.request_id =
                    format!("{:08x}-0000-4000-8000-{:012x}", self.number, self.sent);
                loop {
                    let tried = Instant::now();
                    match self.grpc(replica, request.clone()).await {
                        Outcome::Unknown => replica = (replica + 1) % self.replicas.len(),
                        outcome => break outcome,
                    }
                    sleep_until(tried + PACE).await;
                }
            }
        };
        let mut read = None;
        if self.entry == Entry::Grpc && matches!(outcome, Outcome::Acknowledged { .. }) {
            read = self.read().await;
        }
        Attempt { user_id, value, replica, begun, outcome, read }
    }

    /// Reads on the other replica. `None` if the replica fails or may read old data.
    async fn read(&self) -> Option<String> {
        let mut users = self.users.get((self.replica + 1) % self.replicas.len())?.clone();
        let request = GetUserDetailsRequest { user_id: self.user_id, ..Default::default() };
        let is_split = || self.split_brain.load(Ordering::Relaxed);
        let before = is_split();
        let answer = timeout(self.answer_timeout, users.get_user_details(request)).await;
        if before || is_split() {
            return None;
        }
        let details = answer.ok()?.ok()?.into_inner().user_details?;
        Some(details.address.and_then(|address| address.city).unwrap_or_default())
    }

    /// Waits until the next update is due.
    pub async fn rest(&self, attempt: &Attempt) {
        sleep_until(attempt.begun + PACE).await;
    }

    async fn grpc(&self, replica: usize, request: UpdateUserDetailsRequest) -> Outcome {
        let mut users = self.users[replica % self.users.len()].clone();
        match timeout(self.answer_timeout, users.update_user_details(request)).await {
            Ok(Ok(answer)) => {
                let before = answer.into_inner().previous_details;
                let before = before.and_then(|details| details.address?.city);
                let before = Some(before.unwrap_or_default());
                Outcome::Acknowledged { at: Instant::now(), before }
            }
            Ok(Err(status))
                if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) =>
            {
                Outcome::Unknown
            }
            Ok(Err(status)) => Outcome::Unexpected(format!("{status:?}")),
            Err(_) => Outcome::Unexpected("the service has not answered".to_owned()),
        }
    }

    /// Sends the update as a legacy call.
    async fn call(&self, value: &str) -> Outcome {
        let target = target("admin", &self.user_id.to_string(), &format!("city={value}"));
        let address = self.replicas[self.replica].http;
        let answer = send(&self.http, address, Method::POST, &target, &[], Bytes::new());
        match timeout(self.answer_timeout, answer).await {
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => Outcome::Unknown,
            Ok(answer) if answer.body.contains("<success>") => {
                Outcome::Acknowledged { at: Instant::now(), before: None }
            }
            Ok(answer) => Outcome::Unexpected(format!("{} {}", answer.status, answer.body)),
            Err(_) => Outcome::Unexpected("the service has not answered".to_owned()),
        }
    }
}
