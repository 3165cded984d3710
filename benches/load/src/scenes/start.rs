//! From the start of the process to the first answer, on a database that is filled already.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use m4_user_details::proto::user_details_service_client::UserDetailsServiceClient;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::{
    callers::{FIRST_ID, channels, read},
    database::Database,
    measured::{median, milliseconds},
    program::{PATIENCE, command, stop},
};

/// How often it is started.
const STARTS: usize = 10;
/// How long a caller rests before it tries again.
const REST: Duration = Duration::from_micros(200);

/// How long starts took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    /// The median, in milliseconds.
    pub(crate) median: f64,
    /// Each of them, in milliseconds.
    pub(crate) each: Vec<f64>,
}

/// Plays the scene.
pub(crate) async fn play(database: &Database) -> Start {
    // The first one reads the program from the disk.
    first_answer(&database.url).await;
    let mut each = Vec::new();
    for _ in 0..STARTS {
        each.push(milliseconds(first_answer(&database.url).await));
    }
    let median = median(each.iter().copied()).unwrap();
    println!("{}: {median:.1} ms from start to first answer", database.engine.name());
    Start { median, each }
}

/// Starts the service and reads a user as soon as that is answered; then ends it.
async fn first_answer(database: &str) -> Duration {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let mut service = command(&["serve", "--demo", "--database-url", database])
        .env("M4_GRPC_LISTEN", free.to_string())
        // It warns of every call before the database is prepared.
        .env("M4_LOG", "error")
        .spawn()
        .unwrap();
    timeout(PATIENCE, answer(free)).await.expect("no answer");
    let taken = begun.elapsed();
    stop(&mut service).await;
    taken
}

/// Asks until there is an answer: over a new connection where there is none, again where the database is not ready.
async fn answer(address: SocketAddr) {
    while tokio::net::TcpStream::connect(address).await.is_err() {
        sleep(REST).await;
    }
    let mut client = UserDetailsServiceClient::new(channels(address, 1).remove(0));
    while client.get_user_details(read(FIRST_ID)).await.is_err() {
        sleep(REST).await;
    }
}
