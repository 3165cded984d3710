//! All attacks on memory at once.

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use tonic::Code;

use crate::{
    answers::{hold_unread_lists, hold_watchers, write_comments},
    connections::{hold_idle, hold_pipelined, hold_slow_bodies, hold_slow_heads},
    healthy::{Healthy, call_as_new_client},
    messages::{hold_unfinished_messages, send_bombs},
    support::{database::TestDatabase, on_sqlite},
    tokens::send_forged,
    victim::{ALLOCATOR, Victim},
};

on_sqlite!(all_attacks_at_once_are_bounded);

/// How long the attacks run together.
const MIX: Duration = Duration::from_secs(12);
/// The status codes of refused attacks.
const REFUSED: &[Code] = &[Code::InvalidArgument, Code::ResourceExhausted, Code::DeadlineExceeded];

async fn all_attacks_at_once_are_bounded(database: TestDatabase) {
    let image = include_str!("../../Dockerfile");
    for (name, value) in ALLOCATOR {
        assert!(image.contains(&format!("{name}={value}")), "{name} is not that of the image");
    }
    let victim = Victim::start(&database, &ALLOCATOR).await;
    let (grpc, http) = (victim.program.grpc.unwrap(), victim.program.http);
    let healthy = Healthy::start(&victim);
    let attacks = async {
        // Comments for the watches and lists. Messages of this size are refused later.
        write_comments(&victim.program, 60).await;
        let attacks = [
            send_bombs(grpc, REFUSED, MIX * 2, MIX).boxed(),
            hold_unfinished_messages(grpc, MIX).boxed(),
            hold_unread_lists(grpc, MIX).boxed(),
            send_forged(grpc, REFUSED, MIX * 2, MIX).boxed(),
            hold_idle(300, grpc, MIX).boxed(),
            hold_idle(300, http, MIX).boxed(),
            hold_pipelined(http, MIX).boxed(),
            hold_slow_heads(1000, http, MIX).boxed(),
            hold_slow_bodies(http, MIX).boxed(),
        ];
        join_all(attacks).await;
    };
    tokio::select! {
        () = attacks => {}
        () = hold_watchers(grpc, MIX * 10) => panic!("the watchers ended first"),
    }
    victim.check_memory();
    healthy.check_answered().await;
    victim.wait_for_release().await;
    victim.check_memory();
    call_as_new_client(&victim).await;
}
