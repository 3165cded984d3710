//! Old and dead connections, and messages that are compressed or too large.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use m4_user_details::proto::{
    Comment, GetSettingsRequest, GetUserDetailsRequest, UpdateUserDetailsRequest, UserDetails,
    settings_service_client::SettingsServiceClient,
    user_details_service_client::UserDetailsServiceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{
    Code,
    codec::CompressionEncoding::{Gzip, Zstd},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{
    CONDITION_TIMEOUT,
    app::{TestApp, reason, set_city},
    database::TestDatabase,
    on_sqlite,
    tls::counted,
};

on_sqlite!(
    a_connection_that_is_dead_is_ended,
    an_old_connection_takes_no_new_calls_and_finishes_those_under_way,
    messages_are_compressed_where_the_client_asks,
    a_message_that_is_too_large_is_refused_even_if_it_was_small_on_the_way,
);

/// A dead client sends nothing, not even a FIN.
async fn a_connection_that_is_dead_is_ended(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("grpc.keepalive_seconds", "1")]).await;
    for answers in [false, true] {
        let mut client = TcpStream::connect(app.grpc).await.unwrap();
        // The preface and an empty SETTINGS frame (RFC 9113, section 3.4).
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut pings = 0;
        let listen = async {
            let mut head = [0; 9];
            while pings < 3 && client.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                client.read_exact(&mut payload).await.unwrap();
                let [.., kind, flags, _, _, _, _] = head;
                if kind == 6 && flags == 0 {
                    pings += 1;
                    if answers {
                        client.write_all(&[0, 0, 8, 6, 1, 0, 0, 0, 0]).await.unwrap();
                        client.write_all(&payload).await.unwrap();
                    }
                }
            }
        };
        tokio::time::timeout(CONDITION_TIMEOUT, listen).await.expect("it is ended");
        assert_eq!(pings, if answers { 3 } else { 1 });
    }
}

async fn an_old_connection_takes_no_new_calls_and_finishes_those_under_way(database: TestDatabase) {
    let keys = [("grpc.connection_age_seconds", "1"), ("grpc.connection_grace_seconds", "4")];
    let app = TestApp::start_with(&database, &keys).await;
    // Before the connection is made.
    let begun = Instant::now();
    let (channel, connections) = counted(app.grpc);
    let mut users = UserDetailsServiceClient::new(channel.clone());

    // A call and an endless stream are under way when the connection reaches its maximum age.
    let lock = database.lock_alice().await;
    let mut call_users = users.clone();
    let call =
        tokio::spawn(async move { call_users.update_user_details(set_city(3, "York")).await });
    let watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await;
    let mut watch = watch.unwrap().into_inner();
    watch.next().await.unwrap().unwrap();

    while connections.load(Ordering::Relaxed) == 1 {
        assert!(begun.elapsed() < CONDITION_TIMEOUT, "it never grows old");
        let request = GetUserDetailsRequest { user_id: 4, ..GetUserDetailsRequest::default() };
        // The client cancels a call that it was about to send on the old connection.
        if let Err(error) = users.get_user_details(request).await {
            assert_eq!(error.code(), Code::Cancelled, "{error:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!call.is_finished(), "the call goes on");
    assert!(futures_util::poll!(watch.next()).is_pending(), "the stream goes on");
    lock.release().await;
    call.await.unwrap().expect("it is answered on the old connection");

    let ended = tokio::time::timeout(CONDITION_TIMEOUT, watch.next()).await;
    assert!(ended.expect("the grace ends").unwrap().is_err(), "the stream is cut off");
    assert!(begun.elapsed() > Duration::from_millis(4500), "and no sooner");
}

async fn messages_are_compressed_where_the_client_asks(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let long = "x".repeat(60_000);
    let comment = Comment { comment: Some(long.clone()) };
    let details = UserDetails { comment: Some(comment.into()), ..UserDetails::default() };
    for (encoding, name) in [(Gzip, "gzip"), (Zstd, "zstd")] {
        let mut users = app.users().send_compressed(encoding).accept_compressed(encoding);
        let request =
            UpdateUserDetailsRequest { user_details: Some(details.clone()), ..set_city(3, "") };
        users.update_user_details(request).await.unwrap();
        let request = GetUserDetailsRequest { user_id: 3, ..GetUserDetailsRequest::default() };
        let answer = users.get_user_details(request).await.unwrap();
        assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), name);
        let comment = answer.into_inner().user_details.unwrap().comment.unwrap().comment;
        assert_eq!(comment.as_deref(), Some(long.as_str()));

        let settings = SettingsServiceClient::new(app.channel.clone());
        let mut settings = settings.send_compressed(encoding).accept_compressed(encoding);
        let answer = settings.get_settings(GetSettingsRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().settings.unwrap().allow_api, Some(true));
        let health = HealthClient::new(app.channel.clone());
        let mut health = health.send_compressed(encoding).accept_compressed(encoding);
        health.check(HealthCheckRequest::default()).await.unwrap();
    }
    // A client that accepts no compression gets none.
    let request = GetUserDetailsRequest { user_id: 3, ..GetUserDetailsRequest::default() };
    let answer = app.users().get_user_details(request).await.unwrap();
    assert!(!answer.metadata().contains_key("grpc-encoding"));
}

async fn a_message_that_is_too_large_is_refused_even_if_it_was_small_on_the_way(
    database: TestDatabase,
) {
    let app = TestApp::start_with(&database, &[("grpc.message_limit", "2097152")]).await;
    let comment = Comment { comment: Some("x".repeat(64 << 20)) };
    let details = UserDetails { comment: Some(comment.into()), ..UserDetails::default() };
    let request = UpdateUserDetailsRequest { user_details: Some(details), ..set_city(3, "") };
    let users = app.users();
    for mut users in
        [users.clone(), users.clone().send_compressed(Gzip), users.clone().send_compressed(Zstd)]
    {
        let error = users.update_user_details(request.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
        assert_eq!(reason(&error), "INVALID_REQUEST");
        assert!(error.message().contains("grpc.message_limit"), "{error:?}");
    }
    let mut users = users.send_compressed(Gzip);
    users
        .update_user_details(set_city(3, "York"))
        .await
        .expect("the connection is as good as before");
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 1);
}
