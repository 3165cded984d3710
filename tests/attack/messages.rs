//! Decompression bombs, and messages that never end.

use std::{future::poll_fn, net::SocketAddr, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::{
    healthy::Healthy,
    raw::{ANSWER, call, head, http2, message, status, swarm},
    support::{database::TestDatabase, on_sqlite},
    victim::{ATTACK, Victim},
};

on_sqlite!(
    a_batch_bomb_is_refused,
    a_batch_bomb_without_a_token_is_unauthenticated,
    a_call_without_a_token_is_answered_after_its_headers,
    unfinished_messages_are_bounded,
);

const TOKEN: &str = "a token of the attack suite";
/// Empty updates in a bomb: 4 MB after decompression.
const BOMB_UPDATES: usize = 2_000_000;
/// The announced size of an unfinished message, and the bytes that are sent of it.
const ANNOUNCED: usize = 4_000_000;
const SENT: usize = ANNOUNCED - 1000;

/// A compressed message of less than 1,000 bytes.
fn bomb() -> Bytes {
    // Field 1 of a batch, with length 0.
    let updates = [0x0a, 0].repeat(BOMB_UPDATES);
    let bytes = zstd::encode_all(updates.as_slice(), 19).unwrap();
    assert!(bytes.len() < 1000, "{}", bytes.len());
    message(true, bytes.len(), &bytes)
}

/// Sends bombs on 32 connections. Each response must have one of `codes` and arrive in time.
pub async fn send_bombs(
    to: SocketAddr,
    codes: &'static [Code],
    longest: Duration,
    length: Duration,
) {
    let bomb = bomb();
    swarm(32, length, move |number| {
        let bomb = bomb.clone();
        async move {
            let requests = http2(to, number, 65_535).await?;
            loop {
                let head = head("BatchUpdateUserDetails", Some("zstd"), None);
                let answer = call(&requests, head, bomb.clone(), longest).await;
                let code = Code::from(answer.map_err(std::io::Error::other)?);
                assert!(codes.contains(&code), "{code:?}");
            }
        }
    })
    .await;
}

async fn a_batch_bomb_is_refused(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    let codes = &[Code::InvalidArgument, Code::ResourceExhausted];
    send_bombs(victim.program.grpc.unwrap(), codes, ANSWER, ATTACK).await;
    victim.check(healthy).await;
}

async fn a_batch_bomb_without_a_token_is_unauthenticated(database: TestDatabase) {
    let victim = Victim::start_with_token(&database, TOKEN).await;
    let healthy = Healthy::start(&victim);
    let codes = &[Code::Unauthenticated];
    send_bombs(victim.program.grpc.unwrap(), codes, ANSWER, ATTACK).await;
    victim.check(healthy).await;
}

async fn a_call_without_a_token_is_answered_after_its_headers(database: TestDatabase) {
    let victim = Victim::start_with_token(&database, TOKEN).await;
    let healthy = Healthy::start(&victim);
    let requests = http2(victim.program.grpc.unwrap(), 0, 65_535).await.unwrap();
    for method in ["UpdateUserDetails", "BatchUpdateUserDetails", "WatchUserDetails"] {
        let mut requests = requests.clone().ready().await.unwrap();
        // The body stays open and empty.
        let (answer, _body) = requests.send_request(head(method, None, None), false).unwrap();
        let begun = Instant::now();
        assert_eq!(Code::from(status(answer, ANSWER).await.unwrap()), Code::Unauthenticated);
        assert!(begun.elapsed() < Duration::from_secs(1), "{method}: {:?}", begun.elapsed());
    }
    victim.check(healthy).await;
}

/// Keeps 256 unfinished messages open on each of 4 connections and replaces refused messages.
pub async fn hold_unfinished_messages(to: SocketAddr, length: Duration) {
    swarm(4, length, move |number| async move {
        let requests = http2(to, number, 65_535).await?;
        let mut streams = tokio::task::JoinSet::new();
        loop {
            while streams.len() < 256 {
                streams.spawn(hold_unfinished_message(requests.clone()));
            }
            if let Some(ended) = streams.join_next().await {
                ended.unwrap().map_err(std::io::Error::other)?;
            }
        }
    })
    .await;
}

/// Sends most of a message, then waits for the response.
async fn hold_unfinished_message(
    requests: h2::client::SendRequest<Bytes>,
) -> Result<(), h2::Error> {
    let mut requests = requests.ready().await?;
    let head = head("UpdateUserDetails", None, None);
    let (answer, mut body) = requests.send_request(head, false)?;
    body.send_data(message(false, ANNOUNCED, &[]), false)?;
    let zeros = Bytes::from_static(&[0; 16 * 1024]);
    let send = async {
        let mut sent = 0;
        while sent < SENT {
            body.reserve_capacity(zeros.len());
            let Some(Ok(room)) = poll_fn(|context| body.poll_capacity(context)).await else {
                break;
            };
            let length = room.min(zeros.len()).min(SENT - sent);
            if body.send_data(zeros.slice(..length), false).is_err() {
                break;
            }
            sent += length;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = send => {}
        answered = answer => {
            answered?;
        }
    }
    Ok(())
}

async fn unfinished_messages_are_bounded(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    hold_unfinished_messages(victim.program.grpc.unwrap(), ATTACK).await;
    timeout(Duration::from_secs(20), victim.check(healthy)).await.unwrap();
}
