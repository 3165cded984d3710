//! The writers on a server: several tasks, each with a transaction of its own.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::{
    sync::{Mutex, Notify, Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tracing::Instrument;

use super::{Batch, Job, MOST, Work, common_span, patience, split, unknown};
use crate::{
    domain::{
        error::Error,
        update::{Update, Updated},
    },
    storage::{
        asynchronous::{statements::Lock, transaction::Refused},
        failure::{Failure, is_conflict},
        repository::Database,
    },
};

/// How many transactions are under way at once. With one more each is smaller, and all together slower.
const WRITERS: usize = 2;
/// How long a writer waits at most for as many updates as the other one has under way.
const GATHERING: Duration = Duration::from_millis(2);
/// How often a transaction is run that loses against another one.
const ATTEMPTS: u32 = 5;

/// How long a transaction may take: longer than its statements wait for locks.
const LONGEST: Duration = Duration::from_secs(15);

/// How long other connections are tried where one was dead; a server that does not answer takes longer.
const DEAD_CONNECTIONS: Duration = Duration::from_millis(200);

/// How long to wait before the next one.
const REST: Duration = Duration::from_millis(10);

/// What the writers of a database share.
struct Shared {
    database: Arc<Database>,
    queue: Mutex<mpsc::UnboundedReceiver<Work>>,
    /// How many updates the writers have under way.
    under_way: AtomicUsize,
    /// A writer has ended its transaction.
    ended: Notify,
    /// For the updates that go their own way: they wait for locks, and must leave connections to the others.
    lone: Semaphore,
}

/// How many of the connections to a server may write at once.
pub(in crate::storage) fn writing(connections: usize) -> usize {
    WRITERS + (connections / 4).max(1)
}

/// Starts the writers of a database with so many connections.
pub(super) fn start(
    queue: mpsc::UnboundedReceiver<Work>,
    database: Arc<Database>,
    connections: u32,
) {
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    let lone = writing(connections).saturating_sub(WRITERS).max(1);
    let queue = Mutex::new(queue);
    let shared = Arc::new(Shared {
        database,
        queue,
        under_way: AtomicUsize::new(0),
        ended: Notify::new(),
        lone: Semaphore::new(lone),
    });
    for _ in 0..WRITERS {
        tokio::spawn(write(Arc::clone(&shared)));
    }
}

async fn write(shared: Arc<Shared>) {
    let mut work = Vec::with_capacity(MOST);
    while shared.gather(&mut work).await {
        let number = work.len();
        let (jobs, batches) = split(&mut work);
        batches.into_iter().for_each(|batch| all(&shared, batch));
        if let Some(span) = common_span(&jobs) {
            let together = together(&shared, jobs).instrument(span);
            // A panic ends these updates and not the writer.
            if AssertUnwindSafe(together).catch_unwind().await.is_err() {
                tracing::error!("a transaction has panicked");
            }
        }
        shared.under_way.fetch_sub(number, Ordering::Relaxed);
        shared.ended.notify_waiters();
    }
}

impl Shared {
    /// Takes what waits: as much as the other writer has under way, if that comes before it ends. What one transaction has
    /// answered comes back bit by bit, and to begin with the first of it would make many small ones. Answers whether
    /// there is any.
    async fn gather(&self, work: &mut Vec<Work>) -> bool {
        let mut queue = self.queue.lock().await;
        let mut open = queue.recv_many(work, MOST).await > 0;
        let gather = async {
            loop {
                let ended = self.ended.notified();
                let room = MOST - work.len();
                if !open || work.len() >= self.under_way.load(Ordering::Relaxed) || room == 0 {
                    return;
                }
                tokio::select! {
                    more = queue.recv_many(work, room) => open = more > 0,
                    () = ended => {}
                }
            }
        };
        // Nothing that was received is lost with it.
        let _ = timeout(GATHERING, gather).await;
        // The other one sees it as soon as it has the queue.
        self.under_way.fetch_add(work.len(), Ordering::Relaxed);
        !work.is_empty()
    }
}

/// Runs updates in one transaction, and answers them. Those whose users are locked by others, or all of them if it was
/// certainly rolled back for what one of them did, go their own ways: none harms another.
async fn together(shared: &Arc<Shared>, jobs: Vec<Job>) {
    let updates: Vec<_> = jobs.iter().map(|job| (&job.update, job.now)).collect();
    let outcomes = match apply(shared, &updates, Lock::Free, Refused::Alone).await {
        Ok(outcomes) => outcomes,
        Err(failure) if failure.may_be_repeated() => {
            return jobs.into_iter().for_each(|job| alone(shared, job));
        }
        Err(failure) => return unknown(jobs, &failure.error),
    };
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        match outcome {
            // Of a row that is locked there is nothing to be seen.
            Err(Error::UserNotFound) => alone(shared, job),
            outcome => job.answer(outcome),
        }
    }
}

/// Runs a transaction, on another connection where that of the pool had died while it was idle. One that does not end is
/// given up, so that the writer goes on.
async fn apply(
    shared: &Shared,
    updates: &[(&Update, DateTime<Utc>)],
    lock: Lock,
    refused: Refused,
) -> Result<Vec<Result<Updated, Error>>, Failure> {
    let begun = Instant::now();
    let apply = async {
        loop {
            match shared.database.apply(updates, lock, refused).await {
                Err(failure) if failure.never_began() && begun.elapsed() < DEAD_CONNECTIONS => {
                    sleep(REST).await;
                }
                applied => return applied,
            }
        }
    };
    let given_up = || Failure::at_commit(Error::Unavailable("a transaction did not end".into()));
    timeout(LONGEST, apply).await.unwrap_or_else(|_| Err(given_up()))
}

/// Runs an update in a transaction of its own, which waits for its user's lock. In a task: the writer goes on.
fn alone(shared: &Arc<Shared>, mut job: Job) {
    let shared = Arc::clone(shared);
    let span = job.span.clone();
    let run = async move {
        let _connection = tokio::select! {
            () = job.answer.closed() => return,
            connection = shared.lone.acquire() => connection,
        };
        let outcomes = lone(&shared, &[(&job.update, job.now)], Refused::Alone, job.deadline).await;
        job.answer(outcomes.and_then(|mut outcomes| outcomes.remove(0)));
    };
    tokio::spawn(run.instrument(span));
}

/// Runs a batch likewise.
fn all(shared: &Arc<Shared>, mut batch: Batch) {
    let shared = Arc::clone(shared);
    let span = batch.span.clone();
    let run = async move {
        let _connection = tokio::select! {
            () = batch.answer.closed() => return,
            connection = shared.lone.acquire() => connection,
        };
        let outcomes = lone(&shared, &batch.updates(), Refused::All, batch.deadline).await;
        batch.answer(outcomes);
    };
    tokio::spawn(run.instrument(span));
}

/// Runs a transaction that waits for locks, again where it loses against another one; not when its caller has gone.
async fn lone(
    shared: &Shared,
    updates: &[(&Update, DateTime<Utc>)],
    refused: Refused,
    deadline: Option<Instant>,
) -> Result<Vec<Result<Updated, Error>>, Error> {
    let mut attempt = 1;
    loop {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::DeadlineExceeded);
        }
        match apply(shared, updates, Lock::Wait(patience([deadline])), refused).await {
            Err(failure) if is_conflict(&failure.error) && attempt < ATTEMPTS => attempt += 1,
            outcomes => return outcomes.map_err(|failure| failure.error),
        }
    }
}
