//! Subscriptions that resume with their last token whenever their stream ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use m4_user_details::proto::{UserDetailsChange, WatchUserDetailsRequest};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    checker::Seen,
    support::{CONDITION_TIMEOUT, until},
    writers::Replica,
};

/// Backoff after a failure.
const PAUSE: Duration = Duration::from_millis(50);

/// A subscription to every user on one replica.
pub struct Watcher {
    received: Arc<Mutex<Received>>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Received {
    token: String,
    changes: Vec<Seen>,
}

impl Watcher {
    /// Subscribes, and waits until the stream has begun.
    ///
    /// In a split brain the replica may read the old primary, whose log ends earlier. The replica
    /// may then refuse the token as beyond the end of the log.
    pub async fn start(replica: Replica, split_brain: Arc<AtomicBool>) -> Self {
        let received = Arc::<Mutex<Received>>::default();
        let stop = CancellationToken::new();
        let (kept, stopped) = (Arc::clone(&received), stop.clone());
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = follow(replica, &kept, &split_brain) => {}
                }
            }
        });
        let watcher = Self { received, task, stop };
        until("the stream begins", || async { !watcher.received.lock().unwrap().token.is_empty() })
            .await;
        watcher
    }

    /// The number of changes received.
    pub fn count(&self) -> usize {
        self.received.lock().unwrap().changes.len()
    }

    /// Stops the subscription, and returns all changes received.
    pub async fn stop(self) -> Vec<Seen> {
        self.stop.cancel();
        self.task.await.unwrap();
        let mut received = self.received.lock().unwrap();
        std::mem::take(&mut received.changes)
    }
}

/// Follows one stream from the last token to its end.
async fn follow(replica: Replica, received: &Mutex<Received>, split_brain: &AtomicBool) {
    let resume_token = received.lock().unwrap().token.clone();
    let request = WatchUserDetailsRequest { resume_token, ..Default::default() };
    let ended = async {
        let mut stream = replica.users().watch_user_details(request).await?.into_inner();
        // The stream sends a heartbeat every few seconds.
        while let Some(response) = timeout(CONDITION_TIMEOUT, stream.message()).await.unwrap()? {
            let mut received = received.lock().unwrap();
            received.changes.extend(response.change.map(seen));
            received.token = response.resume_token;
        }
        Ok::<_, tonic::Status>(())
    };
    if let Err(status) = ended.await {
        let is_allowed = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::InvalidArgument => split_brain.load(Ordering::Relaxed),
            _ => false,
        };
        assert!(is_allowed, "{status:?}");
        sleep(PAUSE).await;
    }
}

fn seen(change: UserDetailsChange) -> Seen {
    let city = change.details.and_then(|details| details.address?.city);
    Seen { id: change.change_id, user_id: change.user_id, new: city.unwrap_or_default() }
}
