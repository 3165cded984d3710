//! What the service says of itself while its database does not answer.

use std::net::SocketAddr;

use http::StatusCode;
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
        app::reason,
        database::{Kind, TestDatabase},
        on_every_engine,
    },
};

on_every_engine!(it_serves_while_its_database_answers_and_not_otherwise);

async fn it_serves_while_its_database_answers_and_not_otherwise(database: TestDatabase) {
    if database.kind == Kind::Sqlite {
        it_is_alive_without_its_file().await;
        return;
    }
    // The database stands behind a proxy that can be cut.
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

async fn it_is_alive_without_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("later");
    let url = format!("sqlite://{}", missing.join("test.db").display());
    let program = Program::serve(&["--demo"], &[("M4_DATABASE_URL", &url)]).await;
    assert_not_serving(&program).await;
    std::fs::create_dir(&missing).unwrap();
    program.wait_for_status("/readyz", StatusCode::OK).await;
    assert_eq!(health(&program).await, ServingStatus::Serving);
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

/// A database's URL through the proxy, and the server's own address.
fn behind(url: &str, proxy: SocketAddr) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let (user, server) = authority.rsplit_once('@').unwrap();
    (format!("{scheme}://{user}@{proxy}/{path}"), server.to_owned())
}

/// Forwards connections until it is cut; then they break.
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
