//! The real application on real sockets, and clients for both entry points.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use m4_user_details::{
    app::{Application, Environment, RunError},
    config::{Config, Layers},
    domain::watch::WatchBudget,
    proto::{
        Address, GetUserDetailsRequest, UpdateUserDetailsRequest, UpdateUserDetailsResponse,
        UserDetails, administration_service_client::AdministrationServiceClient,
        legacy_service_client::LegacyServiceClient, settings_service_client::SettingsServiceClient,
        user_details_service_client::UserDetailsServiceClient,
    },
};
use sha1::{Digest, Sha1};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use super::{database::TestDatabase, until};

/// A client that sends `grpc-timeout` but has no timer of its own, so it gets the service's
/// response. The timer of tonic's channel returns a status without details.
pub type UntimedUsers = UserDetailsServiceClient<Client<HttpConnector, tonic::body::Body>>;

/// A client without a timer of its own.
pub fn untimed_users(grpc: SocketAddr) -> UntimedUsers {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let origin = format!("http://{grpc}").parse().unwrap();
    UserDetailsServiceClient::with_origin(client, origin)
}

/// The path of the legacy call.
pub const PATH: &str = "/billing/api/user_details_update";

/// The application on demo data, as `serve --demo` runs it.
pub struct TestApp {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub channel: Channel,
    /// The memory that subscriptions use.
    pub watch_budget: Arc<WatchBudget>,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

/// The response to a legacy call.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// A configuration on free ports, with some keys changed.
pub fn config(url: &str, keys: &[(&'static str, &str)]) -> Config {
    let mut flags = vec![
        ("database.url", url.to_owned()),
        ("grpc.listen", "127.0.0.1:0".to_owned()),
        ("http.listen", "127.0.0.1:0".to_owned()),
        ("admin.listen", "127.0.0.1:0".to_owned()),
    ];
    flags.extend(keys.iter().map(|(key, value)| (*key, (*value).to_owned())));
    Config::read(&Layers::new(None, [], flags)).unwrap()
}

/// The hash of a call, with the secret key of the demo data.
pub fn hash(username: &str, user_id: &str) -> String {
    hex::encode(Sha1::digest(format!("{username}{user_id}secret")))
}

/// The request target of a call with a valid hash.
pub fn target(username: &str, user_id: &str, parameters: &str) -> String {
    let hash = hash(username, user_id);
    let separator = if parameters.is_empty() { "" } else { "&" };
    format!("{PATH}?u={username}&user_id={user_id}&hash={hash}{separator}{parameters}")
}

impl TestApp {
    /// Starts on demo data, without tokens.
    pub async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, &[]).await
    }

    /// Starts on demo data with some configuration keys changed.
    pub async fn start_with(database: &TestDatabase, keys: &[(&'static str, &str)]) -> Self {
        Self::start_config(&config(&database.url, keys), true).await
    }

    /// Starts with a configuration.
    pub async fn start_config(config: &Config, demo: bool) -> Self {
        let app = Self::launch(config, demo).await;
        app.wait_until_ready().await;
        app
    }

    /// Starts on demo data in an environment, with some configuration keys changed.
    pub async fn start_in(
        database: &TestDatabase,
        keys: &[(&'static str, &str)],
        environment: Environment,
    ) -> Self {
        let config = config(&database.url, keys);
        let application = Application::service(&config, true, environment).await.unwrap();
        let app = Self::run(application);
        app.wait_until_ready().await;
        app
    }

    /// Starts, and does not wait for readiness.
    pub async fn launch(config: &Config, demo: bool) -> Self {
        Self::run(Application::service(config, demo, Environment::default()).await.unwrap())
    }

    fn run(application: Application) -> Self {
        let http = application.http_address().unwrap();
        let grpc = application.grpc_address().unwrap();
        let watch_budget = application.watch_budget().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(application.run(stop.clone()));
        let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
        let channel = endpoint.connect_lazy();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { http, grpc, channel, watch_budget, client, stop, running }
    }

    /// Waits until the service reports that it is ready.
    pub async fn wait_until_ready(&self) {
        until("the service is ready", || async {
            self.send(Method::GET, "/readyz", &[], "").await.status == StatusCode::OK
        })
        .await;
    }

    /// Stops the application as SIGTERM does.
    pub async fn stop(self) -> Result<(), RunError> {
        self.stop.cancel();
        drop((self.client, self.channel));
        self.running.await.unwrap()
    }

    pub fn users(&self) -> UserDetailsServiceClient<Channel> {
        UserDetailsServiceClient::new(self.channel.clone())
    }

    pub fn settings(&self) -> SettingsServiceClient<Channel> {
        SettingsServiceClient::new(self.channel.clone())
    }

    pub fn legacy(&self) -> LegacyServiceClient<Channel> {
        LegacyServiceClient::new(self.channel.clone())
    }

    pub fn administration(&self) -> AdministrationServiceClient<Channel> {
        AdministrationServiceClient::new(self.channel.clone())
    }

    /// Sends one HTTP request.
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        send(&self.client, self.http, method, target, headers, body.into()).await
    }

    /// Makes a legacy call with these parameters in its query string.
    pub async fn call(&self, username: &str, user_id: &str, parameters: &str) -> Answer {
        self.send(Method::POST, &target(username, user_id, parameters), &[], "").await
    }

    /// Reads a user over gRPC as admin.
    pub async fn read(&self, user_id: i64) -> UserDetails {
        let request = GetUserDetailsRequest { user_id, acting_username: "admin".to_owned() };
        let answer = self.users().get_user_details(request).await.unwrap();
        answer.into_inner().user_details.unwrap()
    }

    /// Updates a user over gRPC.
    pub async fn update(
        &self,
        request: UpdateUserDetailsRequest,
    ) -> Result<UpdateUserDetailsResponse, Status> {
        self.users().update_user_details(request).await.map(tonic::Response::into_inner)
    }
}

/// A request that sets a user's city.
pub fn set_city(user_id: i64, city: &str) -> UpdateUserDetailsRequest {
    let address = Address { city: Some(city.to_owned()), ..Address::default() };
    let details = UserDetails { address: Some(address.into()), ..UserDetails::default() };
    UpdateUserDetailsRequest {
        user_id,
        user_details: Some(details),
        ..UpdateUserDetailsRequest::default()
    }
}

/// Sends one HTTP request to an address.
pub async fn send(
    client: &Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.into()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// The reason of an error.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "m4-user-details");
    info.reason
}

/// The invalid fields of an error, each with its allowed values.
pub fn violations(status: &Status) -> Vec<(String, String)> {
    let violations = status.get_details_bad_request().map(|details| details.field_violations);
    violations.into_iter().flatten().map(|own| (own.field, own.description)).collect()
}
