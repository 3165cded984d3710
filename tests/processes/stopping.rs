//! Stopping in order, the calls that a stop finishes, and the data after a crash.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use m4_user_details::proto::{Address, UpdateUserDetailsRequest, UserDetails};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
};

use crate::{
    program::{DRAIN_SECONDS, Program},
    support::{CONDITION_TIMEOUT, app::target, database::TestDatabase, on_every_engine},
};

on_every_engine!(
    every_call_that_was_begun_is_answered_through_both_doors,
    a_door_of_its_own_finishes_what_it_has_begun,
    a_client_that_watches_health_does_not_hold_it_up,
    idle_connections_do_not_hold_it_up,
    a_crash_leaves_every_change_with_its_entry,
);

/// A legacy call whose body the service has begun to read: it has sent `100 Continue`.
pub struct Begun(TcpStream, String);

impl Begun {
    pub async fn call(http: SocketAddr, user_id: &str, body: &str) -> Self {
        let mut stream = TcpStream::connect(http).await.unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n",
            target("admin", user_id, ""),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self(stream, body.to_owned())
    }

    async fn finish(mut self) -> String {
        self.0.write_all(self.1.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

async fn assert_refuses(address: SocketAddr) {
    for _ in 0..12_000 {
        if TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{address} still takes connections");
}

async fn every_call_that_was_begun_is_answered_through_both_doors(database: TestDatabase) {
    let mut program = Program::demo(&database, &[]).await;
    let (http, grpc) = (program.http, program.grpc.unwrap());
    let users = program.users();
    // Connect the channel first, so that calls go out immediately.
    program.read(3).await;
    users.clone().get_user_details(read_alice()).await.unwrap();
    let locked = database.lock_alice().await;
    let mut rpcs = Vec::new();
    for number in 0..3 {
        let mut users = users.clone();
        let address = Address { fax: Some(format!("fax {number}")), ..Address::default() };
        let details = UserDetails { address: Some(address.into()), ..UserDetails::default() };
        let request = UpdateUserDetailsRequest {
            user_id: 3,
            user_details: Some(details),
            ..UpdateUserDetailsRequest::default()
        };
        let mut call = Box::pin(async move { users.update_user_details(request).await });
        // After one poll the connection has the call.
        assert!(timeout(Duration::ZERO, &mut call).await.is_err());
        rpcs.push(tokio::spawn(call));
    }
    // A read does not wait for the lock. It arrives after earlier calls on the same connection.
    users.clone().get_user_details(read_alice()).await.unwrap();
    let legacy = ["0", "1", "2"].map(|number| async move {
        Begun::call(http, "3", &format!("phone=legacy+{number}")).await
    });
    let legacy = join_all(legacy).await;

    program.signal("TERM");
    assert_refuses(grpc).await;
    assert_refuses(http).await;
    let legacy: Vec<_> = legacy.into_iter().map(|call| tokio::spawn(call.finish())).collect();
    assert!(rpcs.iter().all(|call| !call.is_finished()));
    locked.release().await;
    for call in rpcs {
        call.await.unwrap().unwrap();
    }
    for call in legacy {
        let answer = call.await.unwrap();
        assert!(answer.contains("<success>User was updated successfully</success>"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{answer}");
    }
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
    assert_eq!(database.number("SELECT count(*) FROM change_log").await, 6);
}

fn read_alice() -> m4_user_details::proto::GetUserDetailsRequest {
    m4_user_details::proto::GetUserDetailsRequest { user_id: 3, acting_username: String::new() }
}

async fn a_door_of_its_own_finishes_what_it_has_begun(database: TestDatabase) {
    let service = Program::demo(&database, &[]).await;
    let mut door = Program::door(service.grpc.unwrap(), &[]).await;
    let call = Begun::call(door.http, "3", "city=Begun").await;
    door.signal("TERM");
    assert_refuses(door.http).await;
    let answer = call.finish().await;
    assert!(answer.contains("successfully"), "{answer}");
    assert_eq!(door.ended().await.code(), Some(0), "{}", door.log());
    assert_eq!(database.text("SELECT city FROM accounts WHERE id = 3").await, "Begun");
}

/// Load balancers and clients watch health for as long as they live.
async fn a_client_that_watches_health_does_not_hold_it_up(database: TestDatabase) {
    let mut program = Program::demo(&database, &[("M4_DRAIN_SECONDS", DRAIN_SECONDS)]).await;
    let mut client = HealthClient::new(program.channel());
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    program.signal("TERM");
    // The client gets NOT_SERVING, then the stream ends.
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
}

async fn idle_connections_do_not_hold_it_up(database: TestDatabase) {
    // Bytes that a client sends before it falls silent, over HTTP and gRPC.
    let half = "POST /api/user_details_update HTTP/1.1\r\nHost: x\r\n";
    for (sent, over_grpc) in [("", false), (half, false), ("", true), ("PRI * HTTP", true)] {
        let mut program = Program::demo(&database, &[("M4_DRAIN_SECONDS", DRAIN_SECONDS)]).await;
        let address = if over_grpc { program.grpc.unwrap() } else { program.http };
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(sent.as_bytes()).await.unwrap();
        // A reflection client that keeps its stream open.
        let (_asks, questions) = tokio::sync::mpsc::channel::<ServerReflectionRequest>(1);
        let questions = futures_util::stream::unfold(questions, |mut questions| async {
            questions.recv().await.map(|question| (question, questions))
        });
        let mut reflection = ServerReflectionClient::new(program.channel());
        let _answers = reflection.server_reflection_info(questions).await.unwrap();
        // Clients with idle connections.
        let kept_alive = program.users();
        kept_alive.clone().get_user_details(read_alice()).await.unwrap();
        program.call("admin", "3", "").await;
        program.signal("TERM");
        let code = program.ended().await.code();
        assert_eq!(code, Some(0), "{sent:?}, gRPC {over_grpc}: {}", program.log());
    }
}

async fn a_crash_leaves_every_change_with_its_entry(database: TestDatabase) {
    let mut answered = 0;
    for round in 0..3 {
        let program = Program::demo(&database, &[]).await;
        let now = AtomicI64::new(0);
        let work = join_all(["3", "4", "5"].map(|user_id| async {
            for number in 0..10_000 {
                let city = format!("city={round}+{number}");
                let answer = program.call("admin", user_id, &city).await;
                assert!(answer.body.contains("successfully"), "{}", answer.body);
                now.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let enough = async {
            while now.load(Ordering::Relaxed) < 20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = work => panic!("there was time for all of it"),
            () = enough => {}
        }
        answered += now.into_inner();
        program.kill();
        let torn = "SELECT count(*) FROM accounts WHERE version - 1 <> \
                    (SELECT count(*) FROM change_log WHERE user_id = accounts.id)";
        assert_eq!(database.number(torn).await, 0);
        assert!(database.number("SELECT count(*) FROM change_log").await >= answered);
    }
}

/// As a unit of systemd with `Type=notify`.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_of_the_start_and_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let told = async || {
        let mut buffer = [0; 100];
        let length = timeout(CONDITION_TIMEOUT, socket.recv(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let url = format!("sqlite://{}", folder.path().join("test.db").display());
    let variables = [("M4_DATABASE_URL", &*url), ("NOTIFY_SOCKET", path.to_str().unwrap())];
    let mut program = Program::serve(&["--demo"], &variables).await;
    assert_eq!(told().await.trim(), "READY=1");
    program.wait_for_status("/readyz", ::http::StatusCode::OK).await;
    program.signal("TERM");
    assert_eq!(told().await.trim(), "STOPPING=1");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.log());
}
