//! The addresses of clients behind real proxies.

use std::net::{IpAddr, SocketAddr};

use ::http::{Method, StatusCode};
use bytes::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{
    program::{Program, run},
    support::{
        app::{self, Answer, target},
        database::TestDatabase,
        on_sqlite,
        process::free_port,
        server::Server,
        tls::{Authority, Files},
        until,
    },
};

on_sqlite!(
    haproxy_tells_the_client_in_a_header,
    haproxy_tells_the_client_in_the_proxy_protocol,
    allowed_networks_hold_behind_a_proxy_that_speaks_tls_to_the_service,
    nginx_tells_the_client_in_a_header,
    only_trusted_proxies_tell_the_client,
);

/// The address of clients. Proxies have 127.0.0.1.
const CLIENT: &str = "127.0.0.9";
/// What a client writes to appear as another.
const FORGED: [(&str, &str); 2] =
    [("x-forwarded-for", "192.0.2.66"), ("forwarded", "for=192.0.2.66;host=\"x, for=192.0.2.66")];

/// Makes a legacy call from an address.
async fn call(to: SocketAddr, from: &str, parameters: &str, headers: &[(&str, &str)]) -> Answer {
    let mut connector = HttpConnector::new();
    connector.set_local_address(Some(from.parse::<IpAddr>().unwrap()));
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let call = target("admin", "3", parameters);
    app::send(&client, to, Method::POST, &call, headers, Bytes::new()).await
}

/// Makes a legacy call from an address. Returns the client's address in the change log.
async fn logged_client(
    database: &TestDatabase,
    to: SocketAddr,
    from: &str,
    headers: &[(&str, &str)],
) -> String {
    let count = database.number("SELECT count(*) FROM change_log").await;
    let answer = call(to, from, &format!("city=City{count}"), headers).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.body.contains("<success>"), "{}", answer.body);
    database.text("SELECT address FROM change_log ORDER BY id DESC LIMIT 1").await
}

fn loopback(port: u16) -> [SocketAddr; 2] {
    [([127, 0, 0, 1], port).into(), ([0, 0, 0, 0, 0, 0, 0, 1], port).into()]
}

fn haproxy(listeners: &[(u16, &str, &str)], upstream: SocketAddr) -> Option<Server> {
    let mut configuration =
        "defaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n".to_owned();
    for (port, mode, option) in listeners {
        configuration += &format!(
            "listen port-{port}\n bind 127.0.0.1:{port}\n bind ::1:{port}\n {mode}\n \
             server service {upstream} {option}\n"
        );
    }
    Server::haproxy(&configuration, listeners[0].0)
}

async fn haproxy_tells_the_client_in_a_header(database: TestDatabase) {
    let program = Program::demo(&database, &[("M4_HTTP_TRUSTED_PROXIES", "127.0.0.1,::1")]).await;
    let (one, two) = (free_port(), free_port());
    let mode = "mode http\n option forwardfor";
    let Some(_first) = haproxy(&[(one, mode, "")], program.http) else { return };
    let Some(_second) = haproxy(&[(two, mode, "")], loopback(one)[0]) else { return };
    for port in [one, two] {
        let [v4, v6] = loopback(port);
        assert_eq!(logged_client(&database, v4, CLIENT, &[]).await, CLIENT);
        // If all addresses are proxies, the client is the leftmost.
        assert_eq!(logged_client(&database, v6, "::1", &[]).await, "::1");
        // HAProxy passes on `Forwarded`, which contradicts its own header.
        assert_eq!(logged_client(&database, v4, CLIENT, &FORGED[..1]).await, CLIENT);
        assert_eq!(logged_client(&database, v4, CLIENT, &FORGED).await, "");
    }
}

async fn haproxy_tells_the_client_in_the_proxy_protocol(database: TestDatabase) {
    let variables = [("M4_HTTP_PROXY_PROTOCOL", "required")];
    // A probe of the HTTP listener has no PROXY header.
    let url = ("M4_DATABASE_URL", database.url.as_str());
    let program = Program::serve(&["--demo"], &[url, variables[0]]).await;
    until("the service is ready", || async {
        program.ask_admin("/readyz").await.status == StatusCode::OK
    })
    .await;
    let ports = [free_port(), free_port()];
    let listeners = [(ports[0], "mode tcp", "send-proxy"), (ports[1], "mode tcp", "send-proxy-v2")];
    let Some(_proxy) = haproxy(&listeners, program.http) else { return };
    for port in ports {
        let [v4, v6] = loopback(port);
        assert_eq!(logged_client(&database, v4, CLIENT, &FORGED).await, CLIENT);
        assert_eq!(logged_client(&database, v6, "::1", &FORGED).await, "::1");
    }
}

async fn allowed_networks_hold_behind_a_proxy_that_speaks_tls_to_the_service(
    database: TestDatabase,
) {
    const STRANGER: &str = "127.0.0.10";
    let (authority, files) = (Authority::new(), Files::new());
    let (certificate, key) = files.write_own("own", &authority.issue(&["127.0.0.1"]));
    let variables = [
        ("M4_DATABASE_URL", database.url.as_str()),
        ("M4_HTTP_PROXY_PROTOCOL", "required"),
        ("M4_HTTP_TLS_CERTIFICATE", &certificate),
        ("M4_HTTP_TLS_KEY", &key),
    ];
    let program = Program::serve(&["--demo"], &variables).await;
    until("the service is ready", || async {
        program.ask_admin("/readyz").await.status == StatusCode::OK
    })
    .await;
    let networks = format!("allowed_networks={CLIENT}/32");
    let set = run(&["settings", "set", &networks], &variables[..1]);
    assert!(set.status.success());
    let port = free_port();
    let tls = "ssl verify none send-proxy-v2";
    let Some(_proxy) = haproxy(&[(port, "mode tcp", tls)], program.http) else { return };
    let [v4, _] = loopback(port);
    let refused = async |from: &str| {
        let answer = call(v4, from, "city=Wrong", &FORGED).await;
        answer.body.contains("<error>Access Denied</error>")
    };
    until("the networks are in force", || refused(STRANGER)).await;
    assert_eq!(logged_client(&database, v4, CLIENT, &FORGED).await, CLIENT);
    assert!(refused(STRANGER).await);
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

async fn nginx_tells_the_client_in_a_header(database: TestDatabase) {
    let program = Program::demo(&database, &[("M4_HTTP_TRUSTED_PROXIES", "127.0.0.0/29")]).await;
    let (appends, replaces) = (free_port(), free_port());
    let server = |port: u16, headers: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port}; listen [::1]:{port}; location / {{ \
             proxy_pass http://{}; {headers} }} }}\n",
            program.http
        )
    };
    let configuration = [
        server(appends, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"),
        server(
            replaces,
            "proxy_set_header X-Forwarded-For \"\"; \
             proxy_set_header Forwarded \"for=\\\"$remote_addr:$remote_port\\\";proto=http\";",
        ),
    ];
    let Some(_proxy) = Server::nginx(&configuration.concat(), appends) else { return };
    for port in [appends, replaces] {
        let [v4, _] = loopback(port);
        assert_eq!(logged_client(&database, v4, CLIENT, &[]).await, CLIENT);
        assert_eq!(logged_client(&database, v4, CLIENT, &FORGED[..1]).await, CLIENT);
    }
    let [_, v6] = loopback(appends);
    assert_eq!(logged_client(&database, v6, "::1", &[]).await, "::1");
    let [v4, _] = loopback(replaces);
    assert_eq!(logged_client(&database, v4, CLIENT, &FORGED).await, CLIENT);
}

async fn only_trusted_proxies_tell_the_client(database: TestDatabase) {
    let program = Program::demo(&database, &[("M4_HTTP_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let forged = logged_client(&database, program.http, CLIENT, &FORGED).await;
    assert_eq!(forged, CLIENT);
    for (list, client) in [
        ("[fe80::1%25eth0]:4711", "fe80::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ] {
        let headers = [("x-forwarded-for", list)];
        let logged = logged_client(&database, program.http, "127.0.0.1", &headers).await;
        assert_eq!(logged, client, "{list}");
    }
    let log = program.log();
    assert!(log.contains("\"client.address\":\"fe80::1\""), "{log}");
}
