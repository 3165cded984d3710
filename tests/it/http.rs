//! Requests that never reach the call, and responses that do not depend on it.

use ::http::{Method, StatusCode};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    app::{PATH, TestApp, target},
    database::TestDatabase,
    on_every_engine,
};

on_every_engine!(
    other_paths_methods_and_sizes_are_refused_in_xml,
    a_storage_that_is_locked_is_unavailable,
    too_many_updates_at_once_are_refused,
    answers_can_be_html_by_name,
    a_request_target_of_60_kib_is_answered,
);

fn bare(error: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<status>\n  <error>{error}</error>\n</status>\n"
    )
}

async fn other_paths_methods_and_sizes_are_refused_in_xml(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for path in [
        "/",
        "/billing/api/user_details",
        "/api",
        "/API/user_details_update",
        "/api/user_details_update/x",
        "//user_details_update",
    ] {
        let answer = app.send(Method::POST, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.body, bare("There is no such API"));
        assert_eq!(answer.headers["content-type"], "text/xml; charset=utf-8");
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::TRACE] {
        let answer = app.send(method, &target("admin", "3", "hidden=1"), &[], "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.body, bare("Method is not allowed"));
        assert_eq!(answer.headers["allow"], "GET, HEAD, POST");
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let most = format!("comment={}", "x".repeat(262_144 - 8));
    let answer = app.send(Method::POST, &target("admin", "3", ""), &form, most.clone()).await;
    assert!(answer.body.contains("<message>comment must"), "{}", answer.body);
    let answer = app.send(Method::POST, &target("admin", "3", ""), &form, most + "x").await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.body, bare("Request is too large"));
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
    assert_eq!(app.send(Method::GET, "/healthz", &[], "").await.status, StatusCode::OK);
    assert_eq!(app.send(Method::GET, "/readyz", &[], "").await.status, StatusCode::OK);
}

async fn a_storage_that_is_locked_is_unavailable(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("deadline_seconds", "1")]).await;
    let lock = database.lock_alice().await;
    let answer = app.call("admin", "3", "city=Late").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body, bare("Service is temporarily unavailable"));
    assert!(answer.headers.contains_key("retry-after"));
    lock.release().await;
    let answer = app.call("admin", "3", "city=After").await;
    assert!(answer.body.contains("successfully"), "{}", answer.body);
}

async fn too_many_updates_at_once_are_refused(database: TestDatabase) {
    let keys = [("max_in_flight", "1"), ("deadline_seconds", "30")];
    let app = TestApp::start_with(&database, &keys).await;
    let lock = database.lock_alice().await;
    let mut calls: FuturesUnordered<_> =
        (0..5).map(|_| app.call("admin", "3", "city=First")).collect();
    // One call waits for the lock; the others are refused immediately.
    for _ in 0..4 {
        let refused = calls.next().await.unwrap();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.body, bare("Too many requests"));
        assert_eq!(refused.headers["retry-after"], "1");
    }
    lock.release().await;
    let answered = calls.next().await.unwrap();
    assert!(answered.body.contains("successfully"), "{}", answered.body);
}

async fn answers_can_be_html_by_name(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("http.answers", "html")]).await;
    let answer = app.call("admin", "3", "").await;
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    assert!(answer.body.starts_with("<?xml"));
}

async fn a_request_target_of_60_kib_is_answered(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut target = target("admin", "3", "comment=");
    target.push_str(&"x".repeat(60 * 1024 - target.len()));
    let mut stream = TcpStream::connect(app.http).await.unwrap();
    let request = format!("POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("successfully"), "{answer}");
    // Credentials that are too long to forward count as a wrong hash, not as a fault.
    let long = format!("{PATH}?u={}&user_id=3&hash=00", "a".repeat(50 * 1024));
    let answer = app.send(Method::POST, &long, &[], "").await;
    assert!(answer.body.contains("Incorrect hash"), "{}", answer.body);
}
