//! Slow stops, and crashes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinHandle, time::timeout};

use crate::{
    program::Program,
    stopping::Begun,
    support::{app::set_city, database::TestDatabase, on_every_engine},
};

on_every_engine!(
    slow_clients_are_cut_off_at_the_drain_deadline,
    a_second_signal_ends_it_at_once,
    an_update_that_the_database_holds_up_makes_the_stop_a_failure,
    an_answered_update_survives_a_crash,
);

/// A gRPC call whose message never ends.
struct UnfinishedMessage {
    _body: h2::SendStream<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl UnfinishedMessage {
    async fn send(grpc: SocketAddr) -> Self {
        let stream = TcpStream::connect(grpc).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let path = "/m4.userdetails.v1.UserDetailsService/GetUserDetails";
        let request = http::Request::post(format!("http://{grpc}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let mut client = client.ready().await.unwrap();
        let (_, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 200, 8]), false).unwrap();
        Self { _body: body, connection }
    }
}

impl Drop for UnfinishedMessage {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn slow_clients_are_cut_off_at_the_drain_deadline(database: TestDatabase) {
    let variables = [("M4_DRAIN_SECONDS", "2"), ("M4_DEADLINE_SECONDS", "60")];
    let mut program = Program::demo(&database, &variables).await;
    // The body of this call never arrives.
    let _begun = Begun::call(program.http, "3", "city=Never").await;
    // This client never reads its responses: at some point the service stops reading.
    let mut unread = TcpStream::connect(program.http).await.unwrap();
    let requests = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000_000);
    let stalled = timeout(Duration::from_millis(500), unread.write_all(&requests)).await;
    assert!(stalled.is_err(), "it reads without end");
    let _unfinished = UnfinishedMessage::send(program.grpc.unwrap()).await;
    let begun = Instant::now();
    program.signal("INT");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 0);
}

async fn a_second_signal_ends_it_at_once(database: TestDatabase) {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let variables = [("M4_DRAIN_SECONDS", "60"), ("M4_DEADLINE_SECONDS", "60")];
        let mut program = Program::demo(&database, &variables).await;
        let _begun = Begun::call(program.http, "3", "city=Never").await;
        program.signal(first);
        program.wait_for_line("stopping").await;
        let begun = Instant::now();
        program.signal(second);
        assert_eq!(program.ended().await.code(), Some(1), "{}", program.log());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(program.log().contains("a second signal"), "{}", program.log());
    }
}

/// The service has the whole request: its client must learn that the outcome is unknown.
async fn an_update_that_the_database_holds_up_makes_the_stop_a_failure(database: TestDatabase) {
    let variables = [("M4_DRAIN_SECONDS", "1"), ("M4_DEADLINE_SECONDS", "60")];
    let mut program = Program::demo(&database, &variables).await;
    let locked = database.lock_alice().await;
    let mut users = program.users();
    let call = tokio::spawn(async move { users.update_user_details(set_city(3, "Late")).await });
    while !program.ask_admin("/metrics").await.body.contains("m4_calls_in_flight 1") {}
    program.signal("TERM");
    call.await.unwrap().unwrap_err();
    assert_eq!(program.ended().await.code(), Some(1), "{}", program.log());
    locked.release().await;
}

async fn an_answered_update_survives_a_crash(database: TestDatabase) {
    for round in 1..=5 {
        let program = Program::demo(&database, &[]).await;
        let city = format!("City {round}");
        // Other calls are under way during the crash.
        let others = join_all((0..5).map(|_| program.call("admin", "4", "hidden=1")));
        let (answer, _) = join(program.set_city(&city, ""), others).await;
        answer.unwrap();
        program.kill();
        assert_eq!(database.text("SELECT city FROM accounts WHERE id = 3").await, city);
        let entries = "SELECT count(*) FROM change_log WHERE user_id = 3";
        assert_eq!(database.number(entries).await, round);
    }
}
