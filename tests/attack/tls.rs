//! Connections that do not finish the TLS handshake.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::ClientConnection;

use crate::{
    connections::{hold_idle, with_new_client},
    healthy::Healthy,
    raw::{connect, swarm},
    support::{database::TestDatabase, on_sqlite, tls::Authority},
    victim::{ATTACK, Victim},
};

on_sqlite!(
    silent_tls_connections_leave_room,
    incomplete_client_hellos_leave_room,
    handshakes_without_an_end_leave_room,
);

/// More connections than a listener has.
const CONNECTIONS: usize = 1100;

/// A complete `ClientHello`.
fn client_hello() -> Vec<u8> {
    let config = Arc::new(Authority::new().client(None));
    let mut client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Keeps connections open that send these bytes and nothing else.
async fn hold_handshakes(to: SocketAddr, sent: Vec<u8>, length: Duration) {
    swarm(CONNECTIONS, length, move |number| {
        let sent = sent.clone();
        async move {
            let mut stream = connect(to, number).await?;
            stream.write_all(&sent).await?;
            // Reads the handshake of the service until the service closes the connection.
            while stream.read(&mut [0; 4096]).await? > 0 {}
            Ok(())
        }
    })
    .await;
}

async fn silent_tls_connections_leave_room(database: TestDatabase) {
    let victim = Victim::start_with_tls(&database).await;
    let healthy = Healthy::start(&victim);
    let (grpc, http) = (victim.program.grpc.unwrap(), victim.program.http);
    let attack = async {
        join(hold_idle(CONNECTIONS, grpc, ATTACK), hold_idle(CONNECTIONS, http, ATTACK)).await;
    };
    with_new_client(&victim, attack).await;
    victim.check(healthy).await;
}

/// Sends the same bytes on connections to both listeners.
async fn handshakes_leave_room(database: TestDatabase, sent: &[u8]) {
    let victim = Victim::start_with_tls(&database).await;
    let healthy = Healthy::start(&victim);
    let hold = |to: SocketAddr| hold_handshakes(to, sent.to_vec(), ATTACK);
    let attack = async {
        join(hold(victim.program.grpc.unwrap()), hold(victim.program.http)).await;
    };
    with_new_client(&victim, attack).await;
    victim.check(healthy).await;
}

async fn incomplete_client_hellos_leave_room(database: TestDatabase) {
    let hello = client_hello();
    handshakes_leave_room(database, &hello[..hello.len() / 2]).await;
}

async fn handshakes_without_an_end_leave_room(database: TestDatabase) {
    handshakes_leave_room(database, &client_hello()).await;
}
