//! The cost of subscriptions for writers, and the delay from update to event.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use m4_user_details::proto::{
    UserDetailsChange, WatchUserDetailsRequest,
    user_details_service_client::UserDetailsServiceClient,
};
use serde::Serialize;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    arguments::Arguments,
    callers::{self, Call, RESPONSE_TIMEOUT},
    database::Database,
    measured::{Figures, Run},
    program::Program,
    users::random_user,
};

/// Number of callers that write.
const WRITERS: usize = 16;
/// Number of subscriptions to one user each.
const WATCHERS: usize = 100;

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Watch {
    /// Updates without subscriptions.
    pub(crate) nobody: Figures,
    /// Updates with one subscription to all users.
    pub(crate) everything: Figures,
    /// Updates with 100 subscriptions to one user each.
    pub(crate) single_users: Figures,
    /// From sending an update to receiving its event.
    pub(crate) event: Figures,
}

/// Plays the scene.
pub(crate) async fn play(database: &mut Database, arguments: &Arguments) -> Watch {
    let service = Program::service(&database.url).await;
    let (call, users, time) = (Call::Update(service.grpc()), database.users, arguments.time());
    let mut runs: [Vec<Run>; 4] = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..arguments.rounds {
        let nobody = callers::run(&[call], WRITERS, users, time).await;

        let seen = Arc::new(AtomicUsize::new(0));
        callers::remember_sending(true);
        let mut watchers = watch(&service, vec![None], &seen).await;
        let everything = callers::run(&[call], WRITERS, users, time).await;
        let all = async {
            while seen.load(Ordering::Relaxed) < everything.times.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(RESPONSE_TIMEOUT, all).await.expect("a change was not told");
        watchers.abort_all();
        let events = watchers.join_next().await.unwrap().err();
        assert!(events.is_some_and(|ended| ended.is_cancelled()), "the watch has ended");
        let events = callers::remember_sending(false);
        let event = Run::new(latencies(events), time);
        assert_eq!(event.times.len(), everything.times.len(), "each change is told once");

        let chosen = (0..WATCHERS).map(|_| Some(random_user(users))).collect();
        let watchers = watch(&service, chosen, &seen).await;
        let single_users = callers::run(&[call], WRITERS, users, time).await;
        drop(watchers);

        for run in [&nobody, &everything, &single_users] {
            database.acknowledge(run.times.len());
        }
        for (runs, run) in runs.iter_mut().zip([nobody, everything, single_users, event]) {
            runs.push(run);
        }
    }
    database.check().await;
    service.stop().await;
    let [nobody, everything, single_users, event] = runs.map(|runs| Figures::of(&runs));
    println!(
        "{}: updates {:.0} a second, {:.0} while one watches, {:.0} while 100 watch a user each; events {event:.1?}",
        database.engine.name(),
        nobody.rate,
        everything.rate,
        single_users.rate
    );
    Watch { nobody, everything, single_users, event }
}

/// Starts subscriptions, and waits until each stream has begun. `None` subscribes to all users.
async fn watch(service: &Program, users: Vec<Option<i64>>, seen: &Arc<AtomicUsize>) -> JoinSet<()> {
    let channels = callers::channels(service.grpc(), 4);
    let mut watchers = JoinSet::new();
    for (number, user_id) in users.into_iter().enumerate() {
        let mut client = UserDetailsServiceClient::new(channels[number % channels.len()].clone());
        let request = WatchUserDetailsRequest { user_id, ..WatchUserDetailsRequest::default() };
        let begin = async {
            let mut stream = client.watch_user_details(request).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap();
            stream
        };
        let mut stream = timeout(RESPONSE_TIMEOUT, begin).await.expect("a watch does not begin");
        let seen = Arc::clone(seen);
        watchers.spawn(async move {
            while let Some(response) = stream.message().await.unwrap() {
                if let Some(change) = response.change {
                    if let Some(city) = city(change) {
                        callers::arrived(&city);
                    }
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    watchers
}

fn city(change: UserDetailsChange) -> Option<String> {
    change.details?.address?.city
}

/// The delay of each received change.
fn latencies(events: HashMap<String, (Instant, Option<Instant>)>) -> Vec<Duration> {
    let told = events.into_values().filter_map(|(sent, told)| Some(told?.duration_since(sent)));
    told.collect()
}
