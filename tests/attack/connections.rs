//! More connections than a listener accepts, and slow clients.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use crate::{
    healthy::{Healthy, check_new_client},
    raw::{connect, swarm},
    support::{app::target, database::TestDatabase, on_sqlite},
    victim::{ATTACK, Victim, descriptors},
};

on_sqlite!(
    idle_connections_leave_room,
    pipelined_requests_that_are_not_read_are_bounded,
    slow_heads_leave_room,
    slow_bodies_leave_room,
    large_heads_of_slow_bodies_leave_room,
);

/// Interval between two bytes of a slow client.
const SLOW_BYTE: Duration = Duration::from_millis(900);
/// File descriptors of this process that attackers must not use.
const OWN_DESCRIPTORS: usize = 500;
/// The default of `http.body_limit`.
const BODY_LIMIT: usize = 262_144;

/// Keeps `count` silent connections open.
pub async fn hold_idle(count: usize, to: SocketAddr, length: Duration) {
    swarm(count, length, move |number| async move {
        connect(to, number).await?.read_u8().await.map(drop)
    })
    .await;
}

/// Sends pipelined requests on 1,024 connections and reads no response.
pub async fn hold_pipelined(to: SocketAddr, length: Duration) {
    swarm(1024, length, move |number| async move {
        let mut stream = connect(to, number).await?;
        let requests = "GET /none HTTP/1.1\r\nHost: x\r\n\r\n".repeat(8);
        loop {
            stream.write_all(requests.as_bytes()).await?;
            sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
}

/// Keeps `count` request heads open and sends their bytes slowly.
pub async fn hold_slow_heads(count: usize, to: SocketAddr, length: Duration) {
    swarm(count, length, move |number| async move {
        let mut stream = connect(to, number).await?;
        stream.write_all(b"POST /api/user_details_update HTTP/1.1\r\nX: ").await?;
        loop {
            stream.write_all(b"x").await?;
            sleep(SLOW_BYTE).await;
        }
    })
    .await;
}

/// Lets a new client call during an attack.
pub async fn with_new_client(victim: &Victim, attack: impl Future<Output = ()>) {
    let arrive = async {
        sleep(ATTACK / 2).await;
        timeout(ATTACK, check_new_client(victim)).await.unwrap();
    };
    join(attack, arrive).await;
}

async fn idle_connections_leave_room(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    let (http, grpc) = (victim.program.http, victim.program.grpc.unwrap());
    let attack = async {
        join(hold_idle(1100, http, ATTACK), hold_idle(1100, grpc, ATTACK)).await;
    };
    with_new_client(&victim, attack).await;
    victim.check(healthy).await;
}

async fn pipelined_requests_that_are_not_read_are_bounded(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    hold_pipelined(victim.program.http, ATTACK).await;
    victim.check(healthy).await;
}

async fn slow_heads_leave_room(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    let count = (descriptors() - OWN_DESCRIPTORS).min(10_000);
    eprintln!("{count} slow heads");
    with_new_client(&victim, hold_slow_heads(count, victim.program.http, ATTACK)).await;
    victim.check(healthy).await;
}

/// Keeps 1,020 bodies open and sends their last bytes slowly.
pub async fn hold_slow_bodies(to: SocketAddr, length: Duration) {
    swarm(1020, length, move |number| async move {
        let mut stream = connect(to, number).await?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_LIMIT}\r\n\r\n",
            target("admin", "5", "")
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&vec![b'x'; BODY_LIMIT - 1000]).await?;
        loop {
            stream.write_all(b"x").await?;
            sleep(SLOW_BYTE).await;
        }
    })
    .await;
}

/// Keeps 1,020 requests with large heads open and sends their bodies slowly.
async fn hold_large_heads(to: SocketAddr, length: Duration) {
    swarm(1020, length, move |number| async move {
        let mut stream = connect(to, number).await?;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nX: {}\r\nContent-Length: 1000\r\n\r\n",
            target("admin", "5", ""),
            "x".repeat(60_000)
        );
        stream.write_all(head.as_bytes()).await?;
        loop {
            stream.write_all(b"x").await?;
            sleep(SLOW_BYTE).await;
        }
    })
    .await;
}

async fn large_heads_of_slow_bodies_leave_room(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    with_new_client(&victim, hold_large_heads(victim.program.http, ATTACK)).await;
    victim.check(healthy).await;
}

async fn slow_bodies_leave_room(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    with_new_client(&victim, hold_slow_bodies(victim.program.http, ATTACK)).await;
    victim.check(healthy).await;
}
