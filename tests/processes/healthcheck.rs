//! `healthcheck`: the listener that it asks, and its exit code.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    program::{Program, run},
    support::{app::target, database::TestDatabase, on_sqlite, until},
};

on_sqlite!(
    it_tells_whether_the_service_is_ready,
    it_begins_with_a_proxy_header_where_the_listener_demands_one,
    it_is_answered_while_clients_fill_the_http_listener,
);

/// Runs `healthcheck` with these addresses. Returns the exit code and standard error.
fn ask(http: &str, admin: &str) -> (Option<i32>, String) {
    let output = run(&["healthcheck"], &[("M4_HTTP_LISTEN", http), ("M4_ADMIN_LISTEN", admin)]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn it_tells_whether_the_service_is_ready(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let everywhere = |address: SocketAddr| format!("0.0.0.0:{}", address.port());
    let (http, admin) = (everywhere(program.http), everywhere(program.admin.unwrap()));
    let nobody = "127.0.0.1:1";
    assert_eq!(ask(nobody, &admin).0, Some(0));
    assert_eq!(ask(&http, nobody).0, Some(1), "the admin listener is not off");
    assert_eq!(ask(&http, "off").0, Some(0));
    program.kill();
    assert_eq!(ask(&http, &admin).0, Some(1));
}

async fn it_begins_with_a_proxy_header_where_the_listener_demands_one(database: TestDatabase) {
    let demanded = ("M4_HTTP_PROXY_PROTOCOL", "required");
    let variables = [("M4_DATABASE_URL", database.url.as_str()), demanded];
    let program = Program::serve(&["--demo"], &variables).await;
    let http = program.http.to_string();
    let variables = [("M4_HTTP_LISTEN", &*http), ("M4_ADMIN_LISTEN", "off"), demanded];
    until("the service is ready", || async {
        run(&["healthcheck"], &variables).status.code() == Some(0)
    })
    .await;
    assert_eq!(ask(&http, "off").0, Some(1), "the header is not demanded");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fails_while_the_service_is_alive_but_not_ready() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let door = Program::door(nobody, &[]).await;
    let (code, written) = ask("127.0.0.1:1", &door.admin.unwrap().to_string());
    assert_eq!(code, Some(1));
    assert!(written.contains("503"), "{written}");
}

async fn it_is_answered_while_clients_fill_the_http_listener(database: TestDatabase) {
    const CONNECTIONS: &str = "16";
    let variables = [
        ("M4_CONNECTIONS_MAX", CONNECTIONS),
        ("M4_CONNECTIONS_MAX_PER_ADDRESS", "0"),
        ("M4_DEADLINE_SECONDS", "60"),
    ];
    let program = Program::demo(&database, &variables).await;
    // Updates wait for the lock, and connections with complete calls are not closed for others.
    let lock = database.lock_alice().await;
    let call = target("admin", "3", "city=York");
    let mut calls = Vec::new();
    for _ in 0..CONNECTIONS.parse().unwrap() {
        let mut stream = TcpStream::connect(program.http).await.unwrap();
        let head = format!("POST {call} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        calls.push(stream);
    }
    let (http, admin) = (program.http.to_string(), program.admin.unwrap().to_string());
    let are_active = |line: &str| {
        line.starts_with("m4_connections{")
            && line.contains("listener=\"http\"")
            && line.contains("state=\"active\"")
            && line.ends_with(&format!(" {CONNECTIONS}"))
    };
    until("all calls are under way", || async {
        program.ask_admin("/metrics").await.body.lines().any(are_active)
    })
    .await;
    assert_eq!(ask(&http, "off").0, Some(1), "the listener is not full");
    assert_eq!(ask(&http, &admin), (Some(0), String::new()));
    lock.release().await;
    for mut stream in calls {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        // On a busy machine the lock may have lasted longer than an update waits for it.
        assert!([b"HTTP/1.1 200", b"HTTP/1.1 503"].contains(&&answer), "{answer:?}");
        // The connection serves further calls.
        let last = format!("POST {call} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(last.as_bytes()).await.unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert!(answers.contains("HTTP/1.1 200"), "{answers}");
    }
}
