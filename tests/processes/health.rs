//! Health and readiness while the database does not answer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use http::StatusCode;
use m4_user_details::proto::GetUserDetailsRequest;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;

use crate::{
    program::Program,
    support::{
        app::{reason, set_city},
        database::{Kind, TestDatabase},
        on_postgres, on_servers, on_sqlite, until,
    },
};

on_servers!(
    it_serves_while_its_database_answers_and_not_otherwise,
    it_is_ready_while_calls_use_every_connection,
);
on_postgres!(it_is_not_ready_where_nothing_can_be_written);
on_sqlite!(it_is_alive_without_its_file);

async fn it_serves_while_its_database_answers_and_not_otherwise(database: TestDatabase) {
    // The database is behind a proxy that can be cut.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    drop(listener);
    let (url, server) = behind(&database.url, proxy);
    let program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &url)]).await;
    assert_not_serving(&program).await;
    for _ in 0..2 {
        let cut = CancellationToken::new();
        let forwarding = tokio::spawn(forward(proxy, server.clone(), cut.clone()));
        program.wait_for_status("/readyz", StatusCode::OK).await;
        assert_eq!(health(&program).await, ServingStatus::Serving);
        assert_eq!(program.read(3).await.username, "alice");
        cut.cancel();
        forwarding.await.unwrap();
        assert_not_serving(&program).await;
    }
}

async fn it_is_alive_without_its_file(_: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("later");
    let url = format!("sqlite://{}", missing.join("test.db").display());
    let program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &url)]).await;
    assert_not_serving(&program).await;
    std::fs::create_dir(&missing).unwrap();
    program.wait_for_status("/readyz", StatusCode::OK).await;
    assert_eq!(health(&program).await, ServingStatus::Serving);
}

async fn it_is_ready_while_calls_use_every_connection(database: TestDatabase) {
    let program = Program::demo(&database, &[("M4_DATABASE_MAX_CONNECTIONS", "3")]).await;
    // While this transaction is open, no call reads or changes a user.
    let locking = database.begin().await;
    locking
        .execute(match database.kind {
            Kind::Postgres => "LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE",
            Kind::MariaDb | Kind::Sqlite => "LOCK TABLES accounts WRITE",
        })
        .await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (mut reads, mut updates) = (program.users(), program.users());
        let request = GetUserDetailsRequest { user_id: 3, acting_username: "admin".to_owned() };
        calls.spawn(async move {
            let _ = reads.get_user_details(request).await;
        });
        calls.spawn(async move { drop(updates.update_user_details(set_city(3, "Late")).await) });
    }
    until("connections are waited for", || async {
        let metrics = program.ask_admin("/metrics").await.body;
        let waiting = "db_client_connection_pending_requests{";
        let mut lines = metrics.lines().filter(|line| line.starts_with(waiting));
        lines.any(|line| !line.ends_with(" 0"))
    })
    .await;
    // Longer than from one probe to the end of the next probe: nothing tells that a probe has ended.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3500) {
        assert_eq!(health(&program).await, ServingStatus::Serving, "{}", program.log());
    }
    drop(locking);
    calls.shutdown().await;
}

async fn it_is_not_ready_where_nothing_can_be_written(database: TestDatabase) {
    let program = Program::demo(&database, &[]).await;
    let name = database.text("SELECT current_database()::text").await;
    for (read_only, status) in [("on", StatusCode::SERVICE_UNAVAILABLE), ("off", StatusCode::OK)] {
        let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = {read_only}");
        database.execute(&format!("BEGIN READ WRITE; {set}; COMMIT")).await;
        // Existing sessions keep their setting.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        database.execute(end).await;
        program.wait_for_status("/readyz", status).await;
        if read_only == "on" {
            let refused = program.set_city("Nowhere", "").await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unavailable);
            until("the cause is named", || async {
                let metrics = program.ask_admin("/metrics").await.body;
                let told = "m4_not_ready{cause=\"read_only\"";
                metrics.lines().any(|line| line.starts_with(told) && line.ends_with(" 1"))
            })
            .await;
            assert!(program.log().contains("read-only"), "{}", program.log());
        }
    }
    until("updates are stored again", || async { program.set_city("York", "").await.is_ok() })
        .await;
}

async fn assert_not_serving(program: &Program) {
    program.wait_for_status("/readyz", StatusCode::SERVICE_UNAVAILABLE).await;
    program.wait_for_status("/healthz", StatusCode::OK).await;
    assert_eq!(health(program).await, ServingStatus::NotServing);
    let status = program.set_city("Nowhere", "").await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (tonic::Code::Unavailable, "UNAVAILABLE")
    );
    assert!(status.get_details_retry_info().is_some());
    let answer = program.call("admin", "3", "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.body.contains("Service is temporarily unavailable"));
}

async fn health(program: &Program) -> ServingStatus {
    let mut client = HealthClient::new(program.channel());
    let service = "m4.userdetails.v1.UserDetailsService".to_owned();
    client.check(HealthCheckRequest { service }).await.unwrap().get_ref().status()
}

/// The database URL through the proxy, and the server's own address.
fn behind(url: &str, proxy: SocketAddr) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let (user, server) = authority.rsplit_once('@').unwrap();
    (format!("{scheme}://{user}@{proxy}/{path}"), server.to_owned())
}

/// Forwards connections until it is cut, which breaks them.
async fn forward(proxy: SocketAddr, server: String, cut: CancellationToken) {
    let listener = TcpListener::bind(proxy).await.unwrap();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = cut.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (mut near, _) = accepted.unwrap();
        let server = server.clone();
        connections.spawn(async move {
            let mut far = TcpStream::connect(server).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
    connections.shutdown().await;
}
