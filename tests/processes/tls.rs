//! TLS between processes: standalone gateway, health check, and refusals at start.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::net::TcpListener;

use crate::{
    program::{Program, run},
    relay::{Line, Relay},
    support::{
        CONDITION_TIMEOUT,
        app::target,
        database::TestDatabase,
        on_sqlite,
        tls::{Authority, Files},
    },
};

on_sqlite!(
    a_door_speaks_tls_to_its_upstream_and_proves_itself_by_its_certificate,
    the_health_check_speaks_tls,
    a_door_does_not_feel_that_its_connections_grow_old,
    a_door_says_by_when_it_wants_an_answer_and_does_not_wait_longer,
);

async fn a_door_speaks_tls_to_its_upstream_and_proves_itself_by_its_certificate(
    database: TestDatabase,
) {
    let (authority, files) = (Authority::new(), Files::new());
    let ca = files.write("ca.pem", &authority.pem());
    let (certificate, key) = files.write_own("own", &authority.issue(&["127.0.0.1"]));
    let listed = "[[door]]\nsan = 'door.internal'\n";
    let listed = files.write("certificates.toml", listed);
    let variables = [
        ("M4_GRPC_TLS_CERTIFICATE", certificate.as_str()),
        ("M4_GRPC_TLS_KEY", &key),
        ("M4_GRPC_TLS_CLIENT_CA", &ca),
        ("M4_GRPC_CERTIFICATES_FILE", &listed),
    ];
    let service = Program::demo(&database, &variables).await;
    let upstream = format!("https://{}", service.grpc.unwrap());
    for (name, expected, readiness) in [
        ("door.internal", StatusCode::OK, StatusCode::OK),
        ("stranger.internal", StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let (certificate, key) = files.write_own(name, &authority.issue(&[name]));
        let variables = [
            ("M4_DOOR_TLS_CA", ca.as_str()),
            ("M4_DOOR_TLS_CERTIFICATE", &certificate),
            ("M4_DOOR_TLS_KEY", &key),
        ];
        let door = Program::serve(&["--door-only", "--upstream", &upstream], &variables).await;
        door.wait_for_status("/readyz", readiness).await;
        let answer = door.call("admin", "3", "city=Kaunas").await;
        assert_eq!(answer.status, expected, "{name}: {}", answer.body);
    }
    let anonymous = [("M4_DOOR_TLS_CA", ca.as_str())];
    let door = Program::serve(&["--door-only", "--upstream", &upstream], &anonymous).await;
    let answer = door.call("admin", "3", "city=Wrong").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}

async fn the_health_check_speaks_tls(database: TestDatabase) {
    let (authority, files) = (Authority::new(), Files::new());
    let ca = files.write("ca.pem", &authority.pem());
    let (certificate, key) = files.write_own("own", &authority.issue(&["billing.internal"]));
    let tls = vec![("M4_HTTP_TLS_CERTIFICATE", certificate.as_str()), ("M4_HTTP_TLS_KEY", &key)];
    let mutual = [tls.clone(), vec![("M4_HTTP_TLS_CLIENT_CA", ca.as_str())]].concat();
    for mut variables in [tls, mutual] {
        variables.push(("M4_DATABASE_URL", &database.url));
        let service = Program::serve(&["--demo"], &variables).await;
        let http = service.http.to_string();
        variables.extend([("M4_HTTP_LISTEN", http.as_str()), ("M4_ADMIN_LISTEN", "off")]);
        let begun = Instant::now();
        while run(&["healthcheck"], &variables).status.code() != Some(0) {
            assert!(begun.elapsed() < CONDITION_TIMEOUT, "it is never healthy");
        }
        let plain = [("M4_HTTP_LISTEN", http.as_str()), ("M4_ADMIN_LISTEN", "off")];
        assert_eq!(run(&["healthcheck"], &plain).status.code(), Some(1));
    }
}

async fn a_door_does_not_feel_that_its_connections_grow_old(database: TestDatabase) {
    let variables = [("M4_GRPC_CONNECTION_AGE_SECONDS", "1")];
    let service = Program::demo(&database, &variables).await;
    let relay = Relay::to(service.grpc.unwrap(), Line::Open).await;
    let door = Program::door(relay.address, &[]).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;
    // The gateway has reconnected twice.
    let enough = || relay.connections() >= 3;
    let callers = (0..16).map(|caller| {
        let door = &door;
        async move {
            while !enough() {
                let answer = door.call("admin", &format!("{}", 3 + caller % 3), "hidden=1").await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            }
        }
    });
    let calls = futures_util::future::join_all(callers);
    tokio::time::timeout(CONDITION_TIMEOUT, calls).await.expect("its connections grow old");
}

async fn a_door_says_by_when_it_wants_an_answer_and_does_not_wait_longer(database: TestDatabase) {
    // A listener that accepts connections and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let second = [("M4_DEADLINE_SECONDS", "1")];
    let door = Program::door(silent.local_addr().unwrap(), &second).await;
    let begun = Instant::now();
    let answer = door.send(Method::POST, &target("admin", "3", ""), &[]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
    // The default deadline is ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());

    // The service's own deadline is longer: the gateway's deadline ends the call there.
    let mut service = Program::demo(&database, &[]).await;
    let door = Program::door(service.grpc.unwrap(), &second).await;
    door.wait_for_status("/readyz", StatusCode::OK).await;
    let lock = database.lock_alice().await;
    // On a busy machine the gateway may give up first. The service then logs nothing.
    while !service.log().contains("\"message\":\"call\"") {
        assert!(begun.elapsed() < CONDITION_TIMEOUT, "it is never ended in time");
        let answer = door.call("admin", "3", "city=Late").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers.contains_key("retry-after"));
    }
    let line = service.wait_for_line("call").await;
    assert_eq!(line["fields"]["outcome"], "UNAVAILABLE");
    let milliseconds = line["fields"]["milliseconds"].as_f64().unwrap();
    assert!(milliseconds < 9000.0, "{milliseconds}");
    lock.release().await;
}

#[test]
fn tls_that_is_half_configured_is_refused_at_the_start() {
    let files = Files::new();
    let authority = Authority::new();
    let (certificate, key) = files.write_own("own", &authority.issue(&["127.0.0.1"]));
    let (_, other) = files.write_own("other", &authority.issue(&["127.0.0.1"]));
    let empty = files.write("empty.pem", "");
    let secret = files.write("secret.pem", "a secret that must not be told");
    let twice = files.write("twice.toml", "[[door]]\nsan = 'a'\n[[door]]\nsan = 'a'\n");
    let pair =
        |key| vec![("M4_GRPC_TLS_CERTIFICATE", certificate.as_str()), ("M4_GRPC_TLS_KEY", key)];
    for (variables, expected) in [
        (
            vec![("M4_GRPC_TLS_CERTIFICATE", certificate.as_str())],
            "grpc.tls_certificate (environment) needs grpc.tls_key",
        ),
        (
            vec![("M4_HTTP_TLS_KEY", key.as_str())],
            "http.tls_key (environment) needs http.tls_certificate",
        ),
        (
            vec![("M4_GRPC_TLS_CLIENT_CA", certificate.as_str())],
            "grpc.tls_client_ca (environment) needs grpc.tls_certificate",
        ),
        (pair(&other), "grpc.tls_key (environment) cannot be used: keys may not be consistent"),
        (pair("/no/such/file"), "grpc.tls_key (environment) cannot be read"),
        (pair(&secret), "grpc.tls_key (environment) must name a PEM file with a private key"),
        (
            vec![("M4_HTTP_TLS_CERTIFICATE", empty.as_str()), ("M4_HTTP_TLS_KEY", &key)],
            "http.tls_certificate (environment) must name a PEM file with a certificate",
        ),
        (vec![("M4_HTTP_TLS_CLIENT_CERTIFICATE", "perhaps")], "must be required or optional"),
        (vec![("M4_DOOR_UPSTREAM", "https://127.0.0.1:1")], "door.tls_ca"),
        (
            vec![("M4_DOOR_UPSTREAM", "http://127.0.0.1:1"), ("M4_DOOR_TLS_CA", &certificate)],
            "must be https://HOST:PORT",
        ),
        (
            vec![("M4_GRPC_CERTIFICATES_FILE", twice.as_str())],
            "grpc.certificates_file (environment) has a twice",
        ),
        (
            vec![("M4_GRPC_CERTIFICATES_FILE", twice.as_str())],
            "grpc.certificates_file (environment) needs grpc.tls_client_ca",
        ),
    ] {
        let output = run(&["serve", "--demo"], &variables);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(!told.contains("must not be told"));
    }
}
