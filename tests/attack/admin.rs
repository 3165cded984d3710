//! Attacks on the admin listener. Probes and metrics must be answered, and calls go on.

use std::{net::SocketAddr, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    connections::{hold_idle, hold_slow_heads},
    healthy::{Healthy, Prober},
    raw::{connect, swarm},
    support::{database::TestDatabase, on_sqlite},
    victim::{ATTACK, Victim},
};

on_sqlite!(
    idle_connections_leave_room_for_probes,
    slow_heads_leave_room_for_probes,
    large_heads_leave_room_for_probes,
    unfinished_requests_leave_room_for_probes,
    large_bodies_leave_room_for_probes,
);

/// More connections than the listener has.
const CONNECTIONS: usize = 1100;
/// The size that a large body announces, in bytes.
const BODY: usize = 1 << 30;

async fn leaves_room<F: Future<Output = ()>>(
    database: TestDatabase,
    attack: impl FnOnce(SocketAddr) -> F,
) {
    let victim = Victim::start(&database, &[]).await;
    let (healthy, prober) = (Healthy::start(&victim), Prober::start(&victim));
    attack(victim.program.admin.unwrap()).await;
    prober.check().await;
    victim.check(healthy).await;
}

async fn idle_connections_leave_room_for_probes(database: TestDatabase) {
    leaves_room(database, |admin| hold_idle(CONNECTIONS, admin, ATTACK)).await;
}

async fn slow_heads_leave_room_for_probes(database: TestDatabase) {
    leaves_room(database, |admin| hold_slow_heads(CONNECTIONS, admin, ATTACK)).await;
}

/// Keeps heads open that have almost the largest allowed size.
async fn large_heads_leave_room_for_probes(database: TestDatabase) {
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(60_000));
    leaves_room(database, |admin| hold_requests(admin, head, ATTACK)).await;
}

/// Keeps requests open whose bodies do not arrive.
async fn unfinished_requests_leave_room_for_probes(database: TestDatabase) {
    let head = format!("POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n");
    leaves_room(database, |admin| hold_requests(admin, head, ATTACK)).await;
}

/// Keeps connections open that send this beginning of a request and nothing else.
async fn hold_requests(to: SocketAddr, request: String, length: Duration) {
    swarm(CONNECTIONS, length, move |number| {
        let request = request.clone();
        async move {
            let mut stream = connect(to, number).await?;
            stream.write_all(request.as_bytes()).await?;
            while stream.read(&mut [0; 4096]).await? > 0 {}
            Ok(())
        }
    })
    .await;
}

/// Sends bodies without an end on 64 connections.
async fn large_bodies_leave_room_for_probes(database: TestDatabase) {
    leaves_room(database, |admin| {
        swarm(64, ATTACK, move |number| async move {
            let mut stream = connect(admin, number).await?;
            let path = ["/healthz", "/readyz", "/metrics", "/none"][number % 4];
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let body = vec![b'x'; 64 * 1024];
            for _ in 0..BODY / body.len() {
                stream.write_all(&body).await?;
            }
            Ok(())
        })
    })
    .await;
}
