//! Messages that arrive slowly, and responses that are not read.

use bytes::{BufMut, Bytes, BytesMut};
use m4_user_details::proto::{GetUserDetailsRequest, WatchUserDetailsRequest};
use prost::Message;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    program::Program,
    support::{CONDITION_TIMEOUT, database::TestDatabase, on_sqlite, until},
};

on_sqlite!(
    an_answer_is_in_flight_until_its_deadline,
    a_watch_that_is_not_read_leaves_no_stream_when_it_ends,
    the_memory_of_a_message_is_metered,
);

const SERVICE: &str = "/m4.userdetails.v1.UserDetailsService/";

/// Sends a message on a connection without a response window. Returns the response body.
async fn send_without_window<M: Message>(
    program: &Program,
    method: &str,
    message: &M,
) -> (h2::RecvStream, AbortOnDropHandle<Result<(), h2::Error>>) {
    let grpc = program.grpc.unwrap();
    let socket = TcpStream::connect(grpc).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (client, connection) =
        builder.initial_window_size(0).handshake::<_, Bytes>(socket).await.unwrap();
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    let request = http::Request::post(format!("http://{grpc}{SERVICE}{method}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    stream.send_data(frame.freeze(), true).unwrap();
    (answer.await.unwrap().into_body(), connection)
}

async fn an_answer_is_in_flight_until_its_deadline(database: TestDatabase) {
    let program = Program::demo(&database, &[("M4_DEADLINE_SECONDS", "5")]).await;
    let message = GetUserDetailsRequest { user_id: 3, acting_username: "admin".to_owned() };
    let (mut answer, _connection) = send_without_window(&program, "GetUserDetails", &message).await;
    assert_eq!(program.calls_in_flight().await, 1);
    assert!(!program.log().contains("GetUserDetails"), "{}", program.log());

    let error = answer.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    until("it is in flight no more", || async { program.calls_in_flight().await == 0 }).await;
    let metrics = program.ask_admin("/metrics").await.body;
    let mut counts =
        metrics.lines().filter(|line| line.starts_with("rpc_server_call_duration_seconds_count"));
    let counted =
        |line: &str| line.contains("GetUserDetails") && line.contains("DEADLINE_EXCEEDED");
    assert!(counts.any(counted), "{metrics}");
}

async fn a_watch_that_is_not_read_leaves_no_stream_when_it_ends(database: TestDatabase) {
    let program = Program::demo(&database, &[("M4_DEADLINE_SECONDS", "1")]).await;
    let message = WatchUserDetailsRequest {
        acting_username: "admin".to_owned(),
        ..WatchUserDetailsRequest::default()
    };
    let (mut answer, _connection) =
        send_without_window(&program, "WatchUserDetails", &message).await;
    database.execute("UPDATE accounts SET blocked = TRUE WHERE username = 'admin'").await;
    let ended = timeout(CONDITION_TIMEOUT, answer.data()).await.expect("the stream is still there");
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
}

async fn the_memory_of_a_message_is_metered(database: TestDatabase) {
    const SENT: usize = 200_000;
    let program = Program::demo(&database, &[]).await;
    let metric = async |name: &str| {
        let metrics = program.ask_admin("/metrics").await.body;
        let series = format!("m4_memory_budget_{name}_bytes{{budget=\"messages\"");
        let line = metrics.lines().find(|line| line.starts_with(&series)).expect("no metric");
        line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let grpc = program.grpc.unwrap();
    let socket = TcpStream::connect(grpc).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{grpc}{SERVICE}GetUserDetails"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (_answer, mut stream) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(1_000_000);
    frame.put_bytes(b'a', SENT);
    stream.send_data(frame.freeze(), false).unwrap();
    until("the message is metered", || async { metric("usage").await >= SENT }).await;
    assert!(metric("limit").await >= 1_000_000);
    connection.abort();
    until("its memory is free", || async { metric("usage").await == 0 }).await;
}
