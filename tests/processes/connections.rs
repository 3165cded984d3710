//! Idle connections keep no other client out, not even at the same address.

use std::{
    io,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use m4_user_details::{proto::GetUserDetailsRequest, server::descriptors};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    program::Program,
    support::{
        CONDITION_TIMEOUT,
        app::{PATH, target},
        database::TestDatabase,
        on_sqlite,
        tls::{Authority, Files, request},
        until,
    },
};

on_sqlite!(
    idle_connections_keep_no_client_out,
    incomplete_requests_keep_no_client_out,
    pipelined_requests_that_are_not_read_keep_no_client_out,
    silent_tls_connections_keep_no_client_out,
    a_connection_that_was_closed_to_make_room_is_counted,
    connections_that_were_closed_for_slow_clients_are_counted,
    connections_that_were_closed_for_their_age_or_handshake_are_counted,
    a_connection_whose_client_does_not_read_is_counted,
    few_descriptors_are_one_warning_and_fewer_connections,
    a_file_at_its_size_limit_does_not_end_the_service,
);

/// Timeout of a healthy client's call; long, as other tests run at the same time.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Low limits keep an attack short.
const FEW: [(&str, &str); 2] =
    [("M4_CONNECTIONS_MAX", "64"), ("M4_CONNECTIONS_MAX_PER_ADDRESS", "48")];

/// Opens connections, and sends the same bytes on each.
async fn connect_many(address: SocketAddr, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = TcpStream::connect(address).await.unwrap();
        // The service may have closed it already.
        let _ = connection.write_all(sent).await;
        connections.push(connection);
    }
    connections
}

/// Sends a request on a new connection, and returns the response.
async fn send(address: SocketAddr, method: &str, target: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

/// Calls once over each listener. Returns the failure.
async fn call(program: &Program) -> Result<(), String> {
    let request = GetUserDetailsRequest { user_id: 3, acting_username: "admin".to_owned() };
    let mut users = program.users();
    let rpc = timeout(CALL_TIMEOUT, users.get_user_details(request)).await;
    if !matches!(rpc, Ok(Ok(_))) {
        return Err(format!("{rpc:?}"));
    }
    let legacy = target("admin", "4", "city=York");
    for (address, method, target, expected) in [
        (program.http, "POST", legacy.as_str(), "successfully"),
        (program.http, "GET", "/readyz", "200 OK"),
        (program.admin.unwrap(), "GET", "/readyz", "200 OK"),
    ] {
        match timeout(CALL_TIMEOUT, send(address, method, target)).await {
            Ok(Ok(response)) if response.contains(expected) => {}
            wrong => return Err(format!("{target}: {wrong:?}")),
        }
    }
    Ok(())
}

/// Asserts that a client is served during an attack, and while the attack's connections stay.
async fn assert_serves(program: &Program, attack: impl Future<Output = Vec<TcpStream>>) {
    let mut attack = std::pin::pin!(attack);
    let mut held = None;
    let (mut calls, mut after) = (0, 0);
    let mut wrong = Vec::new();
    while after < 20 {
        let outcome = tokio::select! {
            connections = &mut attack, if held.is_none() => {
                held = Some(connections);
                continue;
            }
            outcome = call(program) => outcome,
        };
        after += usize::from(held.is_some());
        calls += 1;
        wrong.extend(outcome.err());
    }
    assert!(wrong.len() * 100 <= calls, "{} of {calls}: {wrong:?}", wrong.len());
}

async fn idle_connections_keep_no_client_out(database: TestDatabase) {
    descriptors::raise_limit().unwrap();
    // The default limits.
    let program = Program::demo(&database, &[]).await;
    let client = program.users();
    let request = || GetUserDetailsRequest { user_id: 3, acting_username: "admin".to_owned() };
    client.clone().get_user_details(request()).await.unwrap();
    for address in [program.http, program.grpc.unwrap(), program.admin.unwrap()] {
        assert_serves(&program, connect_many(address, 1100, b"")).await;
    }
    // A client reconnects after its idle connection was closed.
    client.clone().get_user_details(request()).await.unwrap();
}

async fn incomplete_requests_keep_no_client_out(database: TestDatabase) {
    let program = Program::demo(&database, &FEW).await;
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n");
    assert_serves(&program, connect_many(program.http, 300, head.as_bytes())).await;
    let body = format!("{head}Content-Length: 9\r\n\r\nu=admin");
    assert_serves(&program, connect_many(program.http, 300, body.as_bytes())).await;
    let preface = b"PRI * HTTP/2.0\r\n";
    assert_serves(&program, connect_many(program.grpc.unwrap(), 300, preface)).await;
}

async fn pipelined_requests_that_are_not_read_keep_no_client_out(database: TestDatabase) {
    let program = Program::demo(&database, &FEW).await;
    let requests = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    assert_serves(&program, connect_many(program.http, 200, &requests)).await;
}

async fn silent_tls_connections_keep_no_client_out(database: TestDatabase) {
    let (authority, files) = (Authority::new(), Files::new());
    let (certificate, key) = files.write_own("own", &authority.issue(&["127.0.0.1"]));
    let mut variables = FEW.to_vec();
    variables.extend([
        ("M4_HTTP_TLS_CERTIFICATE", certificate.as_str()),
        ("M4_HTTP_TLS_KEY", key.as_str()),
        ("M4_DATABASE_URL", database.url.as_str()),
    ]);
    let program = Program::serve(&["--demo"], &variables).await;
    let _silent = connect_many(program.http, 100, b"").await;
    // The beginning of a ClientHello.
    let _begun = connect_many(program.http, 100, b"\x16\x03\x01").await;
    for _ in 0..5 {
        let healthy = request(program.http, authority.client(None), "GET /healthz");
        let response = timeout(CALL_TIMEOUT, healthy).await.unwrap().unwrap();
        assert!(response.contains("200 OK"), "{response}");
    }
}

async fn a_connection_that_was_closed_to_make_room_is_counted(database: TestDatabase) {
    let program = Program::demo(&database, &FEW).await;
    let _idle = connect_many(program.grpc.unwrap(), 60, b"").await;
    let begun = Instant::now();
    loop {
        let metrics = program.ask_admin("/metrics").await.body;
        let value = |name: &str, label: &str| value(&metrics, name, "grpc", label);
        let closed = value("m4_connections_closed_total", "reason=\"address_limit\"");
        let idle = value("m4_connections", "state=\"idle\"");
        if closed >= 12 && idle >= 40 {
            assert_eq!(value("m4_connections_refused_total", "reason"), 0, "{metrics}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{metrics}");
    }
}

/// The sum of a listener's metric over all series with a label.
fn value(metrics: &str, name: &str, listener: &str, label: &str) -> u64 {
    let series = metrics.lines().filter(|line| {
        line.starts_with(&format!("{name}{{"))
            && line.contains(label)
            && line.contains(&format!("listener=\"{listener}\""))
    });
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits until this many connections were closed for each reason. The timeouts of the program are
/// 10 s, and cannot be configured: `listen` has tests of them with a paused clock.
async fn wait_for_closed(program: &Program, expected: &[(&str, &str, u64)]) {
    until("all closed connections are counted", || async {
        let metrics = program.ask_admin("/metrics").await.body;
        expected.iter().all(|(listener, reason, count)| {
            let label = format!("reason=\"{reason}\"");
            value(&metrics, "m4_connections_closed_total", listener, &label) == *count
        })
    })
    .await;
}

async fn connections_that_were_closed_for_slow_clients_are_counted(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let grpc = program.grpc.unwrap();
    let _silent = connect_many(grpc, 2, b"").await;
    let _prefaces = connect_many(grpc, 3, b"PRI").await;
    let _without_settings = connect_many(grpc, 1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let _heads = connect_many(program.http, 5, b"GET ").await;
    let expected = [
        ("grpc", "first_byte_timeout", 2),
        ("grpc", "head_timeout", 4),
        ("http", "head_timeout", 5),
        ("http", "age", 0),
    ];
    wait_for_closed(&program, &expected).await;
}

async fn connections_that_were_closed_for_their_age_or_handshake_are_counted(
    database: TestDatabase,
) {
    let (authority, files) = (Authority::new(), Files::new());
    let (certificate, key) = files.write_own("own", &authority.issue(&["127.0.0.1"]));
    let variables = [
        ("M4_GRPC_CONNECTION_AGE_SECONDS", "1"),
        ("M4_HTTP_TLS_CERTIFICATE", certificate.as_str()),
        ("M4_HTTP_TLS_KEY", key.as_str()),
        ("M4_DATABASE_URL", database.url.as_str()),
    ];
    let program = Program::serve(&["--demo"], &variables).await;
    let _old = connect_many(program.grpc.unwrap(), 2, b"").await;
    // The beginning of a ClientHello.
    let _begun = connect_many(program.http, 3, b"\x16\x03\x01").await;
    let expected =
        [("grpc", "age", 2), ("grpc", "first_byte_timeout", 0), ("http", "handshake_timeout", 3)];
    wait_for_closed(&program, &expected).await;
}

async fn a_connection_whose_client_does_not_read_is_counted(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let requests = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let mut deaf = TcpStream::connect(program.http).await.unwrap();
    // The loop ends once the service has closed the connection.
    let sent = async { while deaf.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(CONDITION_TIMEOUT, sent).await.expect("it is closed");
    wait_for_closed(&program, &[("http", "write_timeout", 1), ("http", "idle_timeout", 0)]).await;
}

/// Changes both the soft and the hard limit of a running process.
fn set_limit(program: &Program, limit: &str) {
    let process = program.id().to_string();
    let set = Command::new("prlimit").args(["--pid", &process, limit]).status().unwrap();
    assert!(set.success());
}

async fn few_descriptors_are_one_warning_and_fewer_connections(database: TestDatabase) {
    let variables = [("M4_DATABASE_URL", database.url.as_str())];
    let mut program = Program::serve_limited("-n 300", &["--demo"], &variables).await;
    let message = "few file descriptors (RLIMIT_NOFILE) allow fewer connections than configured";
    let warning = program.wait_for_line(message).await;
    assert_eq!(warning["fields"]["descriptors"], 300);
    assert!(warning["fields"]["connections"].as_u64().unwrap() < 100);
    program.wait_for_status("/readyz", http::StatusCode::OK).await;
    for address in [program.http, program.grpc.unwrap()] {
        assert_serves(&program, connect_many(address, 300, b"")).await;
    }
    assert_eq!(program.log().matches("file descriptors").count(), 1);

    // Fewer than are open: nothing can be accepted until a connection closes.
    let _idle = connect_many(program.http, 60, b"").await;
    call(&program).await.unwrap();
    set_limit(&program, "--nofile=80:300");
    assert_serves(&program, connect_many(program.http, 100, b"")).await;
    let lines = program.log().matches("connections could not be accepted").count();
    assert!(lines <= 3, "one for each listener: {}", program.log());
}

async fn a_file_at_its_size_limit_does_not_end_the_service(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    set_limit(&program, "--fsize=4096:4096");
    for number in 0..20 {
        let city = format!("city=City+{number}");
        let response = send(program.http, "POST", &target("admin", "4", &city)).await.unwrap();
        assert!(!response.contains("successfully"), "the database cannot grow: {response}");
    }
    let response = send(program.http, "GET", "/healthz").await.unwrap();
    assert!(response.contains("200 OK"), "{response}");
}
