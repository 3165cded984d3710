//! Overload: four times the service's capacity.

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
    arguments::Arguments,
    callers::{RESPONSE_TIMEOUT, channels, update},
    database::Database,
    measured::{Figures, Measured, Run, count},
    path::Path,
    stage::Stage,
    users::random_user,
};

/// Offered load ÷ capacity.
const TIMES: f64 = 4.0;
/// Maximum number of outstanding calls: twice the service's 1024 permits, or 4 × the callers at
/// capacity if more. More calls would queue in the client, which shares the processors.
const OUTSTANDING: usize = 2048;
/// Number of connections. The service takes 256 calls on each, so no call waits in the client.
const CHANNELS: usize = 32;
/// Send interval.
const TICK: Duration = Duration::from_millis(1);

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Overload {
    /// `UpdateUserDetails` at the largest caller count with at least 90 % of the best rate.
    pub(crate) capacity: Figures,
    /// The number of callers at capacity.
    pub(crate) capacity_callers: usize,
    /// The service's peak memory at capacity, in MB.
    pub(crate) capacity_peak: f64,
    /// The accepted calls under overload.
    pub(crate) accepted: Figures,
    /// Calls sent per second. This may be less than intended: the client shares the processors, and
    /// sends nothing while all of its calls are outstanding.
    pub(crate) sent: f64,
    /// Refused calls ÷ sent calls.
    pub(crate) refused: f64,
    /// The service's peak memory in the first round, in MB.
    pub(crate) first_peak: f64,
    /// The service's peak memory in the last round, in MB. It must not grow with time.
    pub(crate) peak: f64,
}

/// The results of one flood.
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
    // A busy service gains little from more callers: take the most near the best rate.
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

/// Sends updates at a rate for a time without waiting, then waits for the last responses.
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
            let place = timeout(RESPONSE_TIMEOUT, place).await.expect("no answers").unwrap();
            let client = next.next().unwrap().clone();
            calls.spawn(async move {
                let answer = call(client, users).await;
                drop(place);
                answer
            });
            sent += 1;
        }
        // Frees the memory of finished calls.
        while let Some(answer) = calls.try_join_next() {
            flood.add(answer.unwrap());
        }
    }
    for answer in timeout(RESPONSE_TIMEOUT, calls.join_all()).await.expect("a call is not answered")
    {
        flood.add(answer);
    }
    flood
}

/// The duration of an accepted update; `None` if it was refused.
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
