//! SIGTERM during an attack.

use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    connections::hold_slow_bodies,
    messages::hold_unfinished_messages,
    support::{database::TestDatabase, on_sqlite},
    victim::{ATTACK, Victim},
};

on_sqlite!(
    unfinished_messages_do_not_hold_up_a_stop,
    slow_bodies_do_not_hold_up_a_stop,
    a_second_signal_ends_at_once,
);

/// The signal of a process that aborts, for example after a failed allocation.
const SIGABRT: i32 = 6;
/// The drain deadline, in seconds.
const DRAIN: &str = "3";
/// Time for a process without updates to end after a second signal.
const END: Duration = Duration::from_secs(1);

async fn stop_during(mut victim: Victim, attack: impl Future<Output = ()> + Send + 'static) {
    let attack = tokio::spawn(attack);
    sleep(ATTACK / 2).await;
    let begun = Instant::now();
    victim.program.signal("TERM");
    let status = victim.program.ended().await;
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0), "{status}: {}", victim.last_lines());
    eprintln!("it has ended after {took:?}");
    // Connections are closed at nine tenths of the deadline. The rest is for the storage, and here
    // also for the signal and the end of the process.
    assert!(took < Duration::from_secs(DRAIN.parse().unwrap()), "{took:?}");
    attack.await.unwrap();
}

async fn unfinished_messages_do_not_hold_up_a_stop(database: TestDatabase) {
    let victim = Victim::start(&database, &[("M4_DRAIN_SECONDS", DRAIN)]).await;
    let grpc = victim.program.grpc.unwrap();
    stop_during(victim, hold_unfinished_messages(grpc, ATTACK)).await;
}

async fn slow_bodies_do_not_hold_up_a_stop(database: TestDatabase) {
    let victim = Victim::start(&database, &[("M4_DRAIN_SECONDS", DRAIN)]).await;
    let http = victim.program.http;
    stop_during(victim, hold_slow_bodies(http, ATTACK)).await;
}

async fn a_second_signal_ends_at_once(database: TestDatabase) {
    let variables = [("M4_DRAIN_SECONDS", "60"), ("M4_DEADLINE_SECONDS", "60")];
    let mut victim = Victim::start(&database, &variables).await;
    let attack = tokio::spawn(hold_slow_bodies(victim.program.http, ATTACK));
    sleep(ATTACK / 4).await;
    victim.program.signal("TERM");
    // A program that accepts no connections has begun to stop.
    while tokio::net::TcpStream::connect(victim.program.http).await.is_ok() {
        sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    victim.program.signal("TERM");
    let status = victim.program.ended().await;
    assert_ne!(status.signal(), Some(SIGABRT), "{}", victim.last_lines());
    let took = begun.elapsed();
    eprintln!("it has ended after {took:?}");
    assert!(took < END, "{took:?}");
    attack.await.unwrap();
}
