//! Large responses that the client does not read.

use std::{net::SocketAddr, time::Duration};

use m4_user_details::proto::{
    Comment, ListUserDetailsChangesRequest, UpdateUserDetailsRequest, UserDetails,
    WatchUserDetailsRequest,
};
use prost::Message;
use tokio::task::JoinSet;

use crate::{
    healthy::Healthy,
    program::Program,
    raw::{head, http2, message, swarm},
    support::{database::TestDatabase, on_sqlite},
    victim::{ATTACK, Victim},
};

on_sqlite!(watchers_that_do_not_read_are_bounded, unread_lists_are_bounded);

/// Bytes per comment.
const COMMENT: usize = 60_000;

/// Gives carol one long comment after another.
pub async fn write_comments(program: &Program, count: usize) {
    let mut users = program.users();
    for number in 0..count {
        let comment = Comment { comment: Some(format!("{number:x<COMMENT$}")) };
        let details = UserDetails { comment: Some(comment.into()), ..UserDetails::default() };
        let request = UpdateUserDetailsRequest {
            user_id: 5,
            user_details: Some(details),
            acting_username: "admin".to_owned(),
            ..UpdateUserDetailsRequest::default()
        };
        users.update_user_details(request).await.unwrap();
    }
}

/// Keeps 64 calls open on each connection and reads no response.
async fn hold_unread(
    to: SocketAddr,
    connections: usize,
    method: &'static str,
    request: Vec<u8>,
    length: Duration,
) {
    let request = message(false, request.len(), &request);
    swarm(connections, length, move |number| {
        let request = request.clone();
        async move {
            let requests = http2(to, number, 0).await?;
            let mut calls = JoinSet::new();
            for _ in 0..64 {
                let (requests, request) = (requests.clone(), request.clone());
                calls.spawn(async move {
                    let mut requests = requests.ready().await?;
                    let (answer, mut body) =
                        requests.send_request(head(method, None, None), false)?;
                    body.send_data(request, true)?;
                    let mut body = answer.await?.into_body();
                    // The window is 0: the stream ends when the server gives up.
                    while body.data().await.transpose()?.is_some() {}
                    Ok::<_, h2::Error>(())
                });
            }
            while let Some(ended) = calls.join_next().await {
                ended.unwrap().map_err(std::io::Error::other)?;
            }
            Ok(())
        }
    })
    .await;
}

/// Keeps 512 watches open and reads nothing.
pub async fn hold_watchers(to: SocketAddr, length: Duration) {
    let request =
        WatchUserDetailsRequest { acting_username: "admin".to_owned(), ..Default::default() };
    hold_unread(to, 8, "WatchUserDetails", request.encode_to_vec(), length).await;
}

/// Keeps 256 lists of changes open and reads nothing. Each response has up to 4 MB.
pub async fn hold_unread_lists(to: SocketAddr, length: Duration) {
    let request = ListUserDetailsChangesRequest {
        page_size: 1000,
        acting_username: "admin".to_owned(),
        ..Default::default()
    };
    hold_unread(to, 4, "ListUserDetailsChanges", request.encode_to_vec(), length).await;
}

async fn watchers_that_do_not_read_are_bounded(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    let healthy = Healthy::start(&victim);
    let attack = hold_watchers(victim.program.grpc.unwrap(), ATTACK);
    futures_util::future::join(attack, write_comments(&victim.program, 60)).await;
    victim.check(healthy).await;
}

async fn unread_lists_are_bounded(database: TestDatabase) {
    let victim = Victim::start(&database, &[]).await;
    write_comments(&victim.program, 40).await;
    let healthy = Healthy::start(&victim);
    hold_unread_lists(victim.program.grpc.unwrap(), ATTACK).await;
    victim.check(healthy).await;
}
