//! From the start of the process to the first response, on a filled database.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use m4_user_details::proto::user_details_service_client::UserDetailsServiceClient;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::{
    callers::{channels, read},
    database::Database,
    engine::Engine,
    measured::{median, milliseconds},
    program::{RESPONSE_TIMEOUT, command, stop},
    users::FIRST_ID,
};

/// Number of starts.
const STARTS: usize = 10;
/// Backoff between attempts.
const REST: Duration = Duration::from_micros(200);

/// Start times.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    /// The median, in milliseconds.
    pub(crate) median: f64,
    /// All start times, in milliseconds.
    pub(crate) each: Vec<f64>,
    /// The median without TLS to a PostgreSQL server, in milliseconds.
    pub(crate) without_tls: Option<f64>,
}

/// Plays the scene.
pub(crate) async fn play(database: &Database) -> Start {
    let each = starts(&database.url).await;
    let middle = median(each.iter().copied()).unwrap();
    println!("{}: {middle:.1} ms from start to first answer", database.engine.name());
    let mut without_tls = None;
    if matches!(database.engine, Engine::Postgres(_)) {
        without_tls = median(starts(&format!("{}?sslmode=disable", database.url)).await);
    }
    Start { median: middle, each, without_tls }
}

/// The times of some starts, in milliseconds.
async fn starts(database: &str) -> Vec<f64> {
    // The first start reads the program from disk.
    first_answer(database).await;
    let mut each = Vec::new();
    for _ in 0..STARTS {
        each.push(milliseconds(first_answer(database).await));
    }
    each
}

/// Starts the service, reads a user as soon as possible, then stops the service.
async fn first_answer(database: &str) -> Duration {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let mut service = command(&["serve", "--demo", "--database-url", database])
        .env("M4_GRPC_LISTEN", free.to_string())
        // Before the database is prepared, every call logs a warning.
        .env("M4_LOG", "error")
        .spawn()
        .unwrap();
    timeout(RESPONSE_TIMEOUT, answer(free)).await.expect("no answer");
    let taken = begun.elapsed();
    stop(&mut service).await;
    taken
}

/// Retries until a read succeeds: first the connection, then the call.
async fn answer(address: SocketAddr) {
    while tokio::net::TcpStream::connect(address).await.is_err() {
        sleep(REST).await;
    }
    let mut client = UserDetailsServiceClient::new(channels(address, 1).remove(0));
    while client.get_user_details(read(FIRST_ID)).await.is_err() {
        sleep(REST).await;
    }
}
