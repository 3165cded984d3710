//! The layers around every RPC, seen by a raw HTTP/2 client: it stalls, sends broken messages, and
//! does not read.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{self, SendRequest},
};
use http::{HeaderMap, Method, Request, StatusCode};
use m4_user_details::proto::{
    BatchUpdateUserDetailsRequest, GetUserDetailsRequest, UpdateUserDetailsRequest,
    update_user_details_result::Result as UpdateResult,
    user_details_service_client::UserDetailsServiceClient,
};
use prost::Message;
use prost_types::FieldMask;
use tokio::{net::TcpStream, time::timeout};
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{
    app::{TestApp, reason, set_city, violations},
    database::TestDatabase,
    on_sqlite,
};

on_sqlite!(
    a_call_without_a_token_is_answered_after_its_headers,
    a_request_that_is_no_grpc_call_is_refused_by_http,
    a_message_that_does_not_end_is_given_up_at_the_deadline,
    messages_that_cannot_be_read_are_refused,
    compressed_messages_are_read_and_bombs_are_not_expanded,
    too_many_elements_are_refused_before_they_are_decoded,
    a_large_message_is_handled_beside_small_ones,
    an_answer_that_is_not_read_ends_at_the_deadline,
    open_health_watches_leave_room_for_probes,
    connections_of_health_watches_make_room,
    a_stream_of_reflection_ends,
    a_batch_that_grows_by_what_is_stored_is_refused,
    a_stored_update_whose_answer_has_no_room_is_overloaded,
);

/// Timeout of every wait in these tests.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
const GET: &str = "/m4.userdetails.v1.UserDetailsService/GetUserDetails";
const UPDATE: &str = "/m4.userdetails.v1.UserDetailsService/UpdateUserDetails";
const BATCH: &str = "/m4.userdetails.v1.UserDetailsService/BatchUpdateUserDetails";

/// A connection that grants each response a window of this many bytes.
async fn connect(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let mut builder = client::Builder::new();
    let (client, connection) = builder.initial_window_size(window).handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A message with its gRPC prefix.
fn frame(message: &[u8], is_compressed: bool) -> Bytes {
    let mut frame = vec![u8::from(is_compressed)];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

/// Reads a response to its end, and grants the window for it. Returns the HTTP status, the gRPC
/// status and the message.
async fn read(answer: http::Response<RecvStream>) -> (StatusCode, Status, Vec<u8>) {
    let (parts, mut body) = answer.into_parts();
    let mut message = Vec::new();
    while let Some(data) = timeout(RESPONSE_TIMEOUT, body.data()).await.unwrap() {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        message.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap();
    let headers: HeaderMap = trailers.unwrap_or(parts.headers);
    let status = Status::from_header_map(&headers).unwrap_or_else(|| Status::unknown("none"));
    (parts.status, status, message)
}

/// Begins a call. Its message is not yet sent.
async fn begin(
    client: &mut SendRequest<Bytes>,
    request: Request<()>,
) -> (client::ResponseFuture, SendStream<Bytes>) {
    *client = client.clone().ready().await.unwrap();
    client.send_request(request, false).unwrap()
}

/// A complete call on its own connection.
async fn call(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> (StatusCode, Status, Vec<u8>) {
    let mut client = connect(address, 65_535).await;
    let (answer, mut stream) = begin(&mut client, post(address, path, headers)).await;
    // A refused call may end before its message is sent.
    let _ = stream.send_data(body, true);
    read(timeout(RESPONSE_TIMEOUT, answer).await.unwrap().unwrap()).await
}

async fn a_call_without_a_token_is_answered_after_its_headers(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("grpc.token", "a-token-of-this-test")]).await;
    let mut client = connect(app.grpc, 65_535).await;
    // The body is never sent.
    let (answer, _stream) = begin(&mut client, post(app.grpc, UPDATE, &[GRPC])).await;
    let (http, status, _) = read(timeout(RESPONSE_TIMEOUT, answer).await.unwrap().unwrap()).await;
    assert_eq!((http, status.code()), (StatusCode::OK, Code::Unauthenticated));
    assert_eq!(reason(&status), "UNAUTHENTICATED");
}

async fn a_request_that_is_no_grpc_call_is_refused_by_http(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for content_type in ["application/json", "application/grpc-web", "application/grpcx", ""] {
        let headers = [("content-type", content_type)];
        let (http, ..) = call(app.grpc, GET, &headers, "{}".into()).await;
        assert_eq!(http, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
    }
    let mut client = connect(app.grpc, 65_535).await;
    let mut request = post(app.grpc, GET, &[GRPC]);
    *request.method_mut() = Method::GET;
    let (answer, _stream) = begin(&mut client, request).await;
    let answer = timeout(RESPONSE_TIMEOUT, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()["allow"], "POST");
    let message = GetUserDetailsRequest { user_id: 3, acting_username: "admin".to_owned() };
    let message = frame(&message.encode_to_vec(), false);
    for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
        let headers = [("content-type", content_type)];
        let (http, status, _) = call(app.grpc, GET, &headers, message.clone()).await;
        assert_eq!((http, status.code()), (StatusCode::OK, Code::Ok), "{content_type}");
    }
    let unknown = "/m4.userdetails.v1.UserDetailsService/Unknown";
    let (_, status, _) = call(app.grpc, unknown, &[GRPC], message).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unimplemented, "UNIMPLEMENTED"));
}

async fn a_message_that_does_not_end_is_given_up_at_the_deadline(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut client = connect(app.grpc, 65_535).await;
    let headers = [GRPC, ("grpc-timeout", "300m")];
    let (answer, mut stream) = begin(&mut client, post(app.grpc, UPDATE, &headers)).await;
    stream.send_data(Bytes::from_static(&[0, 0, 0, 1, 0, 7]), false).unwrap();
    let (_, status, _) = read(timeout(RESPONSE_TIMEOUT, answer).await.unwrap().unwrap()).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status), "UNAVAILABLE");
}

async fn messages_that_cannot_be_read_are_refused(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("grpc.message_limit", "2097152")]).await;
    let one = frame(&set_city(3, "Bonn").encode_to_vec(), false);
    let two = [one.clone(), one.clone()].concat();
    let large = Bytes::from_static(&[0, 0, 0x30, 0, 0]);
    for (body, problem) in [
        (Bytes::new(), "is missing or ends early"),
        (one.slice(..one.len() - 1), "is missing or ends early"),
        (two.into(), "is not a valid encoding of the request message"),
        (frame(b"\xff\xff\xff", false), "is not a valid encoding of the request message"),
        (Bytes::from_static(&[7, 0, 0, 0, 0]), "is not a valid encoding of the request message"),
        (frame(b"no encoding is named", true), "is not a valid encoding of the request message"),
        // The user id is a string.
        (frame(b"\x0a\x01x", false), "is not a valid encoding of the request message"),
        (large, "is larger than grpc.message_limit allows"),
    ] {
        let (_, status, _) = call(app.grpc, UPDATE, &[GRPC], body.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{body:?}");
        assert_eq!(reason(&status), "INVALID_REQUEST");
        assert_eq!(violations(&status), [("message".to_owned(), problem.to_owned())], "{body:?}");
    }
    assert_ne!(app.read(3).await.address.unwrap().city.as_deref(), Some("Bonn"));
}

async fn compressed_messages_are_read_and_bombs_are_not_expanded(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let zstd = |message: &[u8]| frame(&zstd::encode_all(message, 3).unwrap(), true);
    let headers = [GRPC, ("grpc-encoding", "zstd")];
    for (length, code) in [(10, Code::Ok), (60_000, Code::Ok), (1 << 20, Code::InvalidArgument)] {
        let mut update = set_city(3, &format!("City {length}"));
        let comment = m4_user_details::proto::Comment { comment: Some("x".repeat(length)) };
        update.user_details.as_mut().unwrap().comment = Some(comment.into());
        let message = zstd(&update.encode_to_vec());
        let (_, status, _) = call(app.grpc, UPDATE, &headers, message).await;
        assert_eq!(status.code(), code, "{length}: {status:?}");
    }
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("City 60000"));

    let (_, status, _) = call(app.grpc, UPDATE, &headers, zstd(&vec![0; 100 << 20])).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "INVALID_REQUEST"));
    // Anybody may call a health check: its message is small.
    let check = "/grpc.health.v1.Health/Check";
    let (_, status, _) = call(app.grpc, check, &headers, zstd(&vec![0; 20 << 10])).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let message = frame(b"whatever", true);
    let headers = [GRPC, ("grpc-encoding", "snappy")];
    let (_, status, _) = call(app.grpc, UPDATE, &headers, message).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unimplemented, "UNIMPLEMENTED"));
    let supported = status.metadata().get("grpc-accept-encoding").unwrap();
    assert_eq!(supported, "identity,gzip,zstd");
}

async fn too_many_elements_are_refused_before_they_are_decoded(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    // Two bytes for each of two million empty updates.
    let tag = BatchUpdateUserDetailsRequest {
        requests: vec![UpdateUserDetailsRequest::default()],
        ..Default::default()
    };
    let bomb = tag.encode_to_vec().repeat(2_000_000);
    let bomb = frame(&zstd::encode_all(&*bomb, 19).unwrap(), true);
    assert!(bomb.len() < 2000, "{}", bomb.len());
    let headers = [GRPC, ("grpc-encoding", "zstd")];
    let (_, status, _) = call(app.grpc, BATCH, &headers, bomb).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    let expected = ("requests".to_owned(), "has more than 1000 elements".to_owned());
    assert_eq!(violations(&status), [expected]);

    let paths = vec!["address.city".to_owned(); 101];
    let update =
        UpdateUserDetailsRequest { update_mask: Some(FieldMask { paths }), ..set_city(3, "Bonn") };
    let status = app.update(update).await.unwrap_err();
    let expected = ("update_mask.paths".to_owned(), "has more than 100 elements".to_owned());
    assert_eq!(violations(&status), [expected]);
}

async fn a_large_message_is_handled_beside_small_ones(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let comment = m4_user_details::proto::Comment { comment: Some("x".repeat(60_000)) };
    let mut update = set_city(4, "Large");
    update.user_details.as_mut().unwrap().comment = Some(comment.into());
    let requests = vec![update; 40];
    let batch = || {
        let request =
            BatchUpdateUserDetailsRequest { requests: requests.clone(), ..Default::default() };
        let mut users = app.users();
        async move { users.batch_update_user_details(request).await }
    };
    let batches = futures_util::future::join_all((0..4).map(|_| batch()));
    let singles = async {
        for _ in 0..20 {
            app.update(set_city(3, "Small")).await.unwrap();
        }
    };
    let (batches, ()) = tokio::join!(batches, singles);
    for batch in batches {
        assert_eq!(batch.unwrap().into_inner().results.len(), 40);
    }
    assert_eq!(app.read(4).await.address.unwrap().city.as_deref(), Some("Large"));
}

async fn an_answer_that_is_not_read_ends_at_the_deadline(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("deadline_seconds", "1")]).await;
    // Responses have no window at all.
    let mut client = connect(app.grpc, 0).await;
    let (answer, mut stream) = begin(&mut client, post(app.grpc, UPDATE, &[GRPC])).await;
    stream.send_data(frame(&set_city(3, "Unread").encode_to_vec(), false), true).unwrap();
    let answer = timeout(RESPONSE_TIMEOUT, answer).await.unwrap().unwrap();
    let error =
        timeout(RESPONSE_TIMEOUT, answer.into_body().data()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    assert_eq!(app.read(3).await.address.unwrap().city.as_deref(), Some("Unread"));
}

async fn connections_of_health_watches_make_room(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("connections.max", "16")]).await;
    let mut watches = Vec::new();
    for _ in 0..16 {
        let channel = Endpoint::new(format!("http://{}", app.grpc)).unwrap();
        let mut health = HealthClient::new(channel.connect().await.unwrap());
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap().unwrap();
        watches.push((health, watch));
    }
    let channel = Endpoint::new(format!("http://{}", app.grpc)).unwrap();
    let mut users = UserDetailsServiceClient::new(channel.connect().await.unwrap());
    let mut update = set_city(3, "Room");
    update.acting_username = "admin".to_owned();
    users.update_user_details(update).await.unwrap();
}

async fn a_stream_of_reflection_ends(database: TestDatabase) {
    let app = TestApp::start_with(&database, &[("deadline_seconds", "1")]).await;
    let mut client = connect(app.grpc, 65_535).await;
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let (answer, _open) = begin(&mut client, post(app.grpc, path, &[GRPC])).await;
    let answer = timeout(RESPONSE_TIMEOUT, answer).await.unwrap().unwrap();
    assert!(timeout(RESPONSE_TIMEOUT, answer.into_body().data()).await.unwrap().is_none());
}

async fn a_batch_that_grows_by_what_is_stored_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let comment = m4_user_details::proto::Comment { comment: Some("x".repeat(60_000)) };
    let mut large = set_city(4, "Large");
    large.user_details.as_mut().unwrap().comment = Some(comment.into());
    app.update(large).await.unwrap();
    let batch = async |allow_partial, number: usize| {
        let requests = (0..number).map(|number| set_city(4, &format!("City {number}"))).collect();
        let request =
            BatchUpdateUserDetailsRequest { requests, allow_partial, ..Default::default() };
        app.users().batch_update_user_details(request).await
    };
    let refused = batch(false, 100).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("4 MiB"), "{refused:?}");
    assert_eq!(app.read(4).await.address.unwrap().city.as_deref(), Some("Large"));
    assert_eq!(batch(false, 50).await.unwrap().into_inner().results.len(), 50);
    // The results are too large to contain the comments.
    let results = batch(true, 200).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 200);
    for result in results {
        let Some(UpdateResult::Response(one)) = result.result else { panic!("{result:?}") };
        let details = one.user_details.unwrap();
        assert!(!details.etag.is_empty() && details.comment.is_none());
    }
}

/// Messages that lack their last byte, and use all but 32 KiB of the smallest `message_memory`:
/// each connection has a reserve of 16 KiB and may use half.
async fn fill_memory(address: SocketAddr) -> Vec<(client::ResponseFuture, SendStream<Bytes>)> {
    const MESSAGE: u32 = 4 << 20;
    let mut beginning = [&[0][..], &MESSAGE.to_be_bytes()].concat();
    beginning.resize(beginning.len() + MESSAGE as usize - 1, 0);
    let mut unfinished = Vec::new();
    for _ in 0..2 {
        let mut client = connect(address, 65_535).await;
        for _ in 0..2 {
            let (answer, mut stream) = begin(&mut client, post(address, UPDATE, &[GRPC])).await;
            stream.send_data(beginning.clone().into(), false).unwrap();
            unfinished.push((answer, stream));
        }
    }
    unfinished
}

async fn a_stored_update_whose_answer_has_no_room_is_overloaded(database: TestDatabase) {
    let keys = [("message_memory", "16777216"), ("deadline_seconds", "300")];
    let app = TestApp::start_with(&database, &keys).await;
    let comment = m4_user_details::proto::Comment { comment: Some("x".repeat(60_000)) };
    let mut large = set_city(3, "Large");
    large.user_details.as_mut().unwrap().comment = Some(comment.into());
    app.update(large).await.unwrap();

    let update = |number: i64| UpdateUserDetailsRequest {
        request_id: format!("0f8fad5b-d9cb-469f-a165-{number:012}"),
        ..set_city(3, &number.to_string())
    };
    let filled = fill_memory(app.grpc).await;
    // Updates are answered until the service has received the messages.
    let refused = async {
        let mut number = 1;
        loop {
            let message = frame(&update(number).encode_to_vec(), false);
            let (_, status, _) = call(app.grpc, UPDATE, &[GRPC], message).await;
            if status.code() != Code::Ok {
                return (number, status);
            }
            number += 1;
        }
    };
    let (number, status) = timeout(RESPONSE_TIMEOUT, refused).await.unwrap();
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "OVERLOADED"));
    let city = "SELECT city FROM accounts WHERE id = 3";
    assert_eq!(database.text(city).await, number.to_string());
    let entries = "SELECT count(*) FROM change_log";
    assert_eq!(database.number(entries).await, 1 + number);

    // With the request id, a retry gets the answer.
    drop(filled);
    let retried = async {
        loop {
            if let Ok(response) = app.update(update(number)).await {
                return response;
            }
        }
    };
    let response = timeout(RESPONSE_TIMEOUT, retried).await.unwrap();
    let address = response.user_details.unwrap().address.unwrap();
    assert_eq!(address.city, Some(number.to_string()));
    assert_eq!(database.number(entries).await, 1 + number);
}

async fn open_health_watches_leave_room_for_probes(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut watches = Vec::new();
    let mut refused = 0;
    for _ in 0..3 {
        let channel = Endpoint::new(format!("http://{}", app.grpc)).unwrap();
        let health = HealthClient::new(channel.connect().await.unwrap());
        for _ in 0..200 {
            match health.clone().watch(HealthCheckRequest::default()).await {
                Ok(watch) => watches.push(watch),
                Err(status) => {
                    assert_eq!(reason(&status), "OVERLOADED", "{status:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0, "{} are open", watches.len());

    let channel = Endpoint::new(format!("http://{}", app.grpc)).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    health.check(HealthCheckRequest::default()).await.expect("a probe is answered");
    assert_eq!(app.send(Method::GET, "/readyz", &[], "").await.status, StatusCode::OK);
    drop(watches);
}
