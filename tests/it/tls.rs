//! TLS on both listeners, and authentication by client certificate.

use std::{net::SocketAddr, time::Duration};

use m4_user_details::proto::{
    GetUserDetailsRequest, UpdateUserDetailsRequest,
    user_details_service_client::UserDetailsServiceClient,
};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{
    ClientConfig,
    version::{TLS12, TLS13},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::support::{
    CONDITION_TIMEOUT,
    app::{TestApp, config, reason, set_city, target},
    database::TestDatabase,
    on_sqlite,
    tls::{Authority, Files, Own, channel, connect, request},
    until,
};

on_sqlite!(
    both_listeners_speak_tls,
    plain_clients_are_refused_where_tls_is_spoken_and_the_other_way_round,
    a_client_must_have_a_certificate_that_is_valid,
    a_client_may_have_a_certificate_where_that_is_optional,
    the_name_in_a_certificate_is_an_identity_with_its_scopes,
    certificates_are_read_anew_while_connections_live,
    who_is_slow_to_agree_on_tls_keeps_nobody_waiting,
);

/// A service with TLS on both listeners, and the authority of its certificates.
struct Secured {
    app: TestApp,
    authority: Authority,
    files: Files,
}

impl Secured {
    async fn start(database: &TestDatabase, keys: &[(&'static str, &str)], listed: &str) -> Self {
        let (authority, files) = (Authority::new(), Files::new());
        let (certificate, key) = files.write_own("own", &authority.issue(&["127.0.0.1"]));
        let ca = files.write("ca.pem", &authority.pem());
        let certificates = files.write("certificates.toml", listed);
        let mut all = vec![
            ("grpc.tls_certificate", certificate.as_str()),
            ("grpc.tls_key", &key),
            ("http.tls_certificate", &certificate),
            ("http.tls_key", &key),
        ];
        if !keys.is_empty() {
            all.extend([("grpc.tls_client_ca", ca.as_str()), ("http.tls_client_ca", &ca)]);
        }
        if !listed.is_empty() {
            all.push(("grpc.certificates_file", &certificates));
        }
        all.extend(keys);
        let app = TestApp::launch(&config(&database.url, &all), true).await;
        let secured = Self { app, authority, files };
        secured.wait_until_ready().await;
        secured
    }

    /// Uses a client certificate, which every configuration accepts.
    async fn wait_until_ready(&self) {
        let own = self.authority.issue(&["probe.internal"]);
        until("the service is ready", || async {
            let client = self.authority.client(Some(&own));
            let answer = request(self.app.http, client, "GET /readyz").await.unwrap();
            answer.starts_with("HTTP/1.1 200")
        })
        .await;
    }

    fn users(&self, own: Option<&Own>) -> UserDetailsServiceClient<Channel> {
        users(self.app.grpc, self.authority.client(own))
    }
}

fn users(grpc: SocketAddr, client: ClientConfig) -> UserDetailsServiceClient<Channel> {
    UserDetailsServiceClient::new(channel(grpc, client))
}

async fn read(mut users: UserDetailsServiceClient<Channel>) -> Result<(), Status> {
    let request = GetUserDetailsRequest { user_id: 3, acting_username: "admin".to_owned() };
    users.get_user_details(request).await.map(drop)
}

async fn update(
    mut users: UserDetailsServiceClient<Channel>,
    acting_username: &str,
) -> Result<(), Status> {
    let request = UpdateUserDetailsRequest {
        acting_username: acting_username.to_owned(),
        ..set_city(3, "Kaunas")
    };
    users.update_user_details(request).await.map(drop)
}

async fn both_listeners_speak_tls(database: TestDatabase) {
    let secured = Secured::start(&database, &[], "").await;
    for version in [&TLS12, &TLS13] {
        let client = secured.authority.client_of(None, &[version]);
        read(users(secured.app.grpc, client.clone())).await.unwrap();
        let call = format!("POST {}", target("admin", "3", "city=Kaunas"));
        let answer = request(secured.app.http, client.clone(), &call).await.unwrap();
        assert!(answer.contains("User was updated successfully"), "{answer}");
        for (address, protocol, other) in
            [(secured.app.grpc, "h2", "http/1.1"), (secured.app.http, "http/1.1", "h2")]
        {
            let stream = connect(address, client.clone(), protocol).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
            assert!(connect(address, client.clone(), other).await.is_err());
        }
    }
    assert!(read(users(secured.app.grpc, Authority::new().client(None))).await.is_err());
    secured.app.stop().await.unwrap();
}

async fn plain_clients_are_refused_where_tls_is_spoken_and_the_other_way_round(
    database: TestDatabase,
) {
    let secured = Secured::start(&database, &[], "").await;
    let endpoint = Endpoint::from_shared(format!("http://{}", secured.app.grpc)).unwrap();
    assert!(read(UserDetailsServiceClient::new(endpoint.connect_lazy())).await.is_err());
    let plain = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let uri = format!("http://{}/readyz", secured.app.http).parse().unwrap();
    assert!(plain.get(uri).await.is_err());
    secured.app.stop().await.unwrap();

    let app = TestApp::start(&database).await;
    let client = Authority::new().client(None);
    for (address, protocol) in [(app.grpc, "h2"), (app.http, "http/1.1")] {
        let refused = connect(address, client.clone(), protocol);
        let refused = tokio::time::timeout(CONDITION_TIMEOUT, refused).await;
        assert!(refused.expect("it is told").is_err());
    }
}

async fn a_client_must_have_a_certificate_that_is_valid(database: TestDatabase) {
    let required = [("grpc.tls_client_certificate", "required")];
    let secured = Secured::start(&database, &required, "").await;
    let names = ["billing.internal"];
    read(secured.users(Some(&secured.authority.issue(&names)))).await.unwrap();
    let expired = secured.authority.issue_expired(&names);
    let other = Authority::new().issue(&names);
    for own in [None, Some(&expired), Some(&other)] {
        assert!(read(secured.users(own)).await.is_err());
        let client = secured.authority.client(own);
        let answer = request(secured.app.http, client, "GET /healthz").await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

async fn a_client_may_have_a_certificate_where_that_is_optional(database: TestDatabase) {
    let optional =
        [("grpc.tls_client_certificate", "optional"), ("http.tls_client_certificate", "optional")];
    let secured = Secured::start(&database, &optional, "").await;
    read(secured.users(None)).await.unwrap();
    let answer = request(secured.app.http, secured.authority.client(None), "GET /healthz").await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    let other = Authority::new().issue(&["billing.internal"]);
    assert!(read(secured.users(Some(&other))).await.is_err());
}

async fn the_name_in_a_certificate_is_an_identity_with_its_scopes(database: TestDatabase) {
    let listed = "
        [[identity]]
        san = 'spiffe://billing/reports'
        name = 'reports'
        scopes = ['read']

        [[identity]]
        san = 'billing.internal'
        name = 'billing'
        scopes = ['admin']

        [[identity]]
        san = 'phones.internal'
        name = 'phones'
        scopes = ['update']
        fields = ['address.phone']
    ";
    let optional = [("grpc.tls_client_certificate", "optional"), ("grpc.token", "a token")];
    let secured = Secured::start(&database, &optional, listed).await;
    let users = |name| secured.users(Some(&secured.authority.issue(&["x.internal", name])));

    read(users("spiffe://billing/reports")).await.unwrap();
    let error = update(users("spiffe://billing/reports"), "admin").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let error = update(users("phones.internal"), "admin").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    update(users("billing.internal"), "").await.unwrap();
    let actor = database.text("SELECT service FROM change_log").await;
    assert_eq!(actor, "billing");

    // A URI is not a DNS name, whatever its text.
    let uri = secured.authority.issue_uri("billing.internal");
    let stranger = secured.authority.issue(&["stranger.internal"]);
    for own in [None, Some(stranger), Some(uri)] {
        let error = read(secured.users(own.as_ref())).await.unwrap_err();
        assert_eq!(reason(&error), "UNAUTHENTICATED");
    }
}

async fn certificates_are_read_anew_while_connections_live(database: TestDatabase) {
    let required = [("grpc.tls_client_certificate", "required")];
    let secured = Secured::start(&database, &required, "").await;
    let Secured { app, authority, files } = &secured;
    let own = authority.issue(&["billing.internal"]);
    let living = secured.users(Some(&own));
    read(living.clone()).await.unwrap();

    let next = Authority::new();
    files.write_own("own", &next.issue(&["127.0.0.1"]));
    files.write("ca.pem", &next.pem());
    let theirs = next.issue(&["billing.internal"]);
    until("the certificates are read anew", || async {
        read(users(app.grpc, next.client(Some(&theirs)))).await.is_ok()
    })
    .await;
    assert!(read(secured.users(Some(&own))).await.is_err(), "the old certificate is of no use");
    assert!(read(users(app.grpc, next.client(Some(&own)))).await.is_err());
    assert!(request(app.http, next.client(Some(&theirs)), "GET /healthz").await.is_ok());
    read(living).await.expect("a connection that was made before lives on");
}

async fn who_is_slow_to_agree_on_tls_keeps_nobody_waiting(database: TestDatabase) {
    let secured = Secured::start(&database, &[], "").await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        slow.push(TcpStream::connect(secured.app.grpc).await.unwrap());
        slow.push(TcpStream::connect(secured.app.http).await.unwrap());
    }
    // The service waits ten seconds for silent clients.
    let limit = Duration::from_secs(9);
    let answered = tokio::time::timeout(limit, read(secured.users(None))).await;
    answered.expect("it is not kept waiting").unwrap();
    let client = secured.authority.client(None);
    let answered = request(secured.app.http, client, "GET /healthz");
    let answered = tokio::time::timeout(limit, answered).await;
    assert!(answered.expect("it is not kept waiting").is_ok());
}
