//! Forged page and resume tokens.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use m4_user_details::proto::{
    ListUserDetailsChangesRequest, ListUserDetailsRequest, WatchUserDetailsRequest,
};
use prost::Message;
use sha1::{Digest, Sha1};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    healthy::Healthy,
    raw::{call, head, http2, message, swarm},
    support::{database::TestDatabase, on_sqlite},
    victim::{ATTACK, Victim},
};

on_sqlite!(forged_tokens_are_refused_fast);

/// A token without a MAC. Anyone can compute its digest.
#[derive(Clone, PartialEq, Message)]
struct Unsigned {
    #[prost(bytes = "vec", tag = "1")]
    request: Vec<u8>,
    #[prost(int64, tag = "2")]
    position: i64,
    #[prost(int64, repeated, tag = "3")]
    gaps: Vec<i64>,
    #[prost(int64, tag = "4")]
    time: i64,
}

fn forged(request: &impl Message) -> Vec<String> {
    let digest = Sha1::digest(request.encode_to_vec())[..8].to_vec();
    let token = |gaps: i64| {
        let gaps = (0..gaps).map(|number| number * 2 + 1).flat_map(|id| [id, id]).collect();
        let token = Unsigned { request: digest.clone(), position: 1 << 40, gaps, time: 1 };
        URL_SAFE_NO_PAD.encode(token.encode_to_vec())
    };
    vec!["A".to_owned(), "A".repeat(3_000_000), token(1), token(50_000), token(300_000)]
}

/// Forged tokens of every kind.
fn requests() -> Vec<(&'static str, Bytes)> {
    let mut requests = Vec::new();
    let admin = || "admin".to_owned();
    let users = ListUserDetailsRequest { acting_username: admin(), ..Default::default() };
    for page_token in forged(&users) {
        let request = ListUserDetailsRequest { page_token, ..users.clone() };
        requests.push(("ListUserDetails", request.encode_to_vec()));
    }
    let changes = ListUserDetailsChangesRequest { acting_username: admin(), ..Default::default() };
    for page_token in forged(&changes) {
        let request = ListUserDetailsChangesRequest { page_token, ..changes.clone() };
        requests.push(("ListUserDetailsChanges", request.encode_to_vec()));
    }
    let watch = WatchUserDetailsRequest { acting_username: admin(), ..Default::default() };
    for resume_token in forged(&watch) {
        let request = WatchUserDetailsRequest { resume_token, ..watch.clone() };
        requests.push(("WatchUserDetails", request.encode_to_vec()));
    }
    requests
        .into_iter()
        .map(|(method, request)| (method, message(false, request.len(), &request)))
        .collect()
}

/// Sends forged tokens on 8 connections. Each response must have one of `codes` and arrive in time.
pub async fn send_forged(
    to: SocketAddr,
    codes: &'static [Code],
    longest: Duration,
    length: Duration,
) {
    let requests = requests();
    swarm(8, length, move |number| {
        let requests = requests.clone();
        async move {
            let connection = http2(to, number, 65_535).await?;
            for (index, (method, request)) in requests.iter().enumerate().cycle() {
                let begun = Instant::now();
                let head = head(method, None, None);
                let answer = call(&connection, head, request.clone(), longest).await;
                let code = Code::from(answer.map_err(std::io::Error::other)?);
                assert!(codes.contains(&code), "{method}, token {}: {code:?}", index % 5);
                let took = begun.elapsed();
                assert!(took < longest, "{method}, token {}: {took:?}", index % 5);
            }
            Ok(())
        }
    })
    .await;
}

async fn forged_tokens_are_refused_fast(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    let (to, codes) = (victim.program.grpc.unwrap(), &[Code::InvalidArgument]);
    send_forged(to, codes, Duration::from_secs(2), ATTACK).await;
    victim.check(healthy).await;
}
