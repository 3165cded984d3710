//! Four times as many calls as the service can answer.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use m4_user_details::proto::user_details_service_client::UserDetailsServiceClient;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    Arguments,
    callers::{PATIENCE, channels, random_user, update},
    database::Database,
    measured::{Figures, Measured, Run, count},
    path::{Path, Stage},
};

/// How many times its capacity is sent to the service.
const TIMES: f64 = 4.0;
/// How many calls wait for their answers at most: four times as many as at capacity, but enough to fill the service's room,
/// which is of 1024, twice. With more it is their own queue that is measured: the client has the same processors.
const OUTSTANDING: usize = 2048;
/// How many connections they share. The service takes 256 calls on each: no call waits in the client for a free place.
const CHANNELS: usize = 32;
/// How often calls are sent.
const TICK: Duration = Duration::from_millis(1);

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Overload {
    /// The best rate of `UpdateUserDetails` at any number of callers.
    pub(crate) capacity: Figures,
    /// That number of callers.
    pub(crate) capacity_callers: usize,
    /// The most memory that the service had at its capacity, in MB.
    pub(crate) capacity_peak: f64,
    /// The calls that were accepted under overload.
    pub(crate) accepted: Figures,
    /// How many calls were really sent in each second. The client shares the processors with the service, and sends no
    /// more while all of its calls are under way: this may be less than was meant.
    pub(crate) sent: f64,
    /// Which part of them was refused.
    pub(crate) refused: f64,
    /// The most memory that the service had in the first round, in MB.
    pub(crate) first_peak: f64,
    /// The same in the last one: it is not to grow with the time.
    pub(crate) peak: f64,
}

/// What became of the calls of one flood.
#[derive(Default)]
struct Flood {
    accepted: Vec<Duration>,
    refused: usize,
}

/// Plays the scene.
pub(crate) async fn play(database: Database, arguments: &Arguments) -> (Database, Overload) {
    let mut stage = Stage::start(database).await;
    let name = stage.database.engine.name();
    let mut measured = Measured::default();
    for round in 1..=arguments.rounds {
        println!("{name}: capacity, round {round}");
        for &callers in &arguments.callers {
            stage.run(Path::Rpc, callers, arguments.time(), &mut measured).await;
        }
    }
    let rows = measured.rows();
    let most = rows.iter().map(|row| row.figures.rate).fold(0.0, f64::max);
    // More callers change little once the service is busy: its capacity is with the most of them.
    let busy = rows.iter().filter(|row| row.figures.rate >= most * 0.9);
    let best = busy.max_by_key(|row| row.case.callers).expect("no number of callers");

    let (mut runs, mut sent, mut refused) = (Vec::new(), Vec::new(), 0);
    let mut peaks = Vec::new();
    for round in 1..=arguments.rounds {
        stage.service.forget_peak();
        let begun = Instant::now();
        let (rate, users) = (TIMES * best.figures.rate, stage.database.users);
        let outstanding = OUTSTANDING.max(4 * best.case.callers);
        let time = arguments.time();
        let flood = flood(stage.service.grpc(), rate, outstanding, users, time).await;
        stage.database.acknowledge(flood.accepted.len());
        sent.push(flood.accepted.len() + flood.refused);
        refused += flood.refused;
        let run = Run::new(flood.accepted, begun.elapsed());
        println!(
            "{name}: overload, round {round}: {:.0} a second accepted, {} of {} calls refused",
            run.rate,
            flood.refused,
            sent[round - 1]
        );
        runs.push(run);
        peaks.push(stage.service.memory().peak);
    }
    let sent: usize = sent.iter().sum();
    let overload = Overload {
        capacity: best.figures,
        capacity_callers: best.case.callers,
        capacity_peak: best.peak.expect("the service is measured"),
        accepted: Figures::of(&runs),
        sent: count(sent) / count(arguments.rounds) / arguments.time().as_secs_f64(),
        refused: count(refused) / count(sent),
        first_peak: peaks[0],
        peak: peaks[arguments.rounds - 1],
    };
    (stage.end().await, overload)
}

/// Sends updates at a rate for a time, whether or not they are answered, and waits for the last answers.
async fn flood(
    address: SocketAddr,
    rate: f64,
    outstanding: usize,
    users: i64,
    time: Duration,
) -> Flood {
    let clients: Vec<_> =
        channels(address, CHANNELS).into_iter().map(UserDetailsServiceClient::new).collect();
    let room = Arc::new(Semaphore::new(outstanding));
    let mut calls = JoinSet::new();
    let mut flood = Flood::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut next = clients.iter().cycle();
    let mut sent = 0;
    let begun = Instant::now();
    while begun.elapsed() < time {
        tick.tick().await;
        while count(sent) < begun.elapsed().as_secs_f64() * rate && begun.elapsed() < time {
            let place = Arc::clone(&room).acquire_owned();
            let place = timeout(PATIENCE, place).await.expect("no answers").unwrap();
            let client = next.next().unwrap().clone();
            calls.spawn(async move {
                let answer = call(client, users).await;
                drop(place);
                answer
            });
            sent += 1;
        }
        // So that their memory is free again.
        while let Some(answer) = calls.try_join_next() {
            flood.add(answer.unwrap());
        }
    }
    for answer in timeout(PATIENCE, calls.join_all()).await.expect("a call is not answered") {
        flood.add(answer);
    }
    flood
}

/// How long an update took that was accepted; none if it was refused.
async fn call(mut client: UserDetailsServiceClient<Channel>, users: i64) -> Option<Duration> {
    let sent = Instant::now();
    match client.update_user_details(update(random_user(users))).await {
        Ok(_) => Some(sent.elapsed()),
        Err(status) => {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            assert!(status.get_details_retry_info().is_some(), "no RetryInfo: {status}");
            None
        }
    }
}

impl Flood {
    fn add(&mut self, answer: Option<Duration>) {
        match answer {
            Some(time) => self.accepted.push(time),
            None => self.refused += 1,
        }
    }
}
