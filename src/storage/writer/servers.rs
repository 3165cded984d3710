//! The writers on PostgreSQL, MariaDB and MySQL: several tasks, each with its own transaction.

use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{MaybeDone, maybe_done},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep, timeout},
};

use super::{
    gathering::{Gathering, UnderWay},
    queue::{Batch, Job, MAX_GROUP_UPDATES, Work, split, unknown},
    traced::{Traced, transaction},
};
use crate::{
    domain::{call_context::CallContext, error::Error, update::Updated},
    storage::{
        connect::{ACQUIRE_TIMEOUT, Options, WRITERS, begin_syncs, writing},
        connection_limiter::{ConnectionLimiter, UseTimer},
        database::{self, Database},
        failure::{Failure, breakage, is_conflict},
        sql::{
            statements::RowLock,
            transaction::{Atomicity, Pending},
        },
    },
    trace::Span,
};

/// Attempts of a transaction that conflicts with another one.
const MAX_CONFLICT_ATTEMPTS: u32 = 5;

/// Attempts of a transaction whose connection is unusable.
const MAX_CONNECTION_ATTEMPTS: u32 = 3;

/// Maximum transaction timeout, longer than the lock timeout of its statements.
const MAX_TRANSACTION_TIME: Duration = Duration::from_secs(15);
/// Minimum transaction timeout, even for earlier deadlines: a disk may be slow.
const MIN_TRANSACTION_TIME: Duration = Duration::from_secs(2);
/// Slack after the last deadline: the server cancels its statements first.
const SERVER_SLACK: Duration = Duration::from_millis(500);

/// How long `begin` tries other connections after the first one fails.
const OTHER_CONNECTIONS: Duration = Duration::from_secs(1);

/// Pause before the next connection.
const RECONNECT_BACKOFF: Duration = Duration::from_millis(10);

/// The state that the writers of a database share.
struct Shared {
    database: Arc<Database>,
    queue: Mutex<mpsc::UnboundedReceiver<Work>>,
    gathering: Gathering,
    /// Limits single updates and batches: they wait for locks and must leave connections to others.
    lone: ConnectionLimiter,
}

/// Starts the writers of a database.
pub(super) fn start(
    queue: mpsc::UnboundedReceiver<Work>,
    database: Arc<Database>,
    options: &Options,
) {
    let lone = writing(options.max_connections) - WRITERS;
    let lone = ConnectionLimiter::new(lone, database.pools().queue.clone());
    let queue = Mutex::new(queue);
    let shared =
        Arc::new(Shared { database, queue, gathering: Gathering::new(options.gather), lone });
    for _ in 0..WRITERS {
        tokio::spawn(write(Arc::clone(&shared)));
    }
}

async fn write(shared: Arc<Shared>) {
    loop {
        // A panic fails the group, not the writer.
        match AssertUnwindSafe(next_group(&shared)).catch_unwind().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => tracing::error!("a transaction has panicked"),
        }
    }
}

/// Takes queued work and runs it. Returns false once the queue is closed.
async fn next_group(shared: &Arc<Shared>) -> bool {
    let mut work = Vec::with_capacity(MAX_GROUP_UPDATES);
    let mut queue = shared.queue.lock().await;
    if queue.recv_many(&mut work, MAX_GROUP_UPDATES).await == 0 {
        return false;
    }
    // Each writer has a connection, so it acquires no permit.
    let _connection = UseTimer::new(shared.database.pools().queue.pool);
    let traced = Traced::of(work.iter().filter_map(|work| match work {
        Work::One(job) => Some(&**job),
        Work::All(_) | Work::Wake => None,
    }));
    let span = traced.span.clone();
    let mut begin = pin!(maybe_done(shared.begin(&span)));
    let begins_later = begin_syncs();
    shared.gathering.gather(&mut queue, &mut work, begin.as_mut(), begins_later).await;
    // Counted before the queue is unlocked, so that the other writer sees the count.
    let _under_way = UnderWay::new(&shared.gathering, work.len());
    drop(queue);
    let (jobs, batches) = split(work);
    batches.into_iter().for_each(|batch| spawn_batch(shared, batch));
    if !jobs.is_empty() {
        let transaction = traced.with(&jobs);
        run_group(shared, begin, jobs, transaction).await;
    }
    true
}

/// An open transaction, or the error of its begin.
type Begun = Result<database::Begun, Error>;

impl Shared {
    /// Begins a transaction. Retries on another connection if a pooled connection died while idle.
    async fn begin(&self, span: &Span) -> Begun {
        let tried = Instant::now();
        let begin = async {
            let mut attempt = 1;
            loop {
                let may_repeat =
                    attempt < MAX_CONNECTION_ATTEMPTS || tried.elapsed() < OTHER_CONNECTIONS;
                match self.database.begin(span).await {
                    Err(error) if breakage(&error).is_some() && may_repeat => {
                        sleep(RECONNECT_BACKOFF).await;
                    }
                    begun => return begun,
                }
                attempt += 1;
            }
        };
        // Longer than the pool's own timeout, so that the pool reports it first.
        let patience = ACQUIRE_TIMEOUT + OTHER_CONNECTIONS;
        timeout(patience, begin).await.unwrap_or_else(|_| Err(given_up()))
    }

    /// Runs a transaction. Times out soon after its last deadline, so that the writer goes on.
    async fn apply(
        &self,
        begun: Begun,
        span: &Span,
        updates: &[Pending<'_>],
        lock: RowLock,
        atomicity: Atomicity,
        last_deadline: Option<Instant>,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        let apply = self.database.apply(begun?, span, updates, lock, atomicity);
        let apply = span.instrument(apply);
        let longest = last_deadline.map_or(MAX_TRANSACTION_TIME, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()) + SERVER_SLACK;
            left.clamp(MIN_TRANSACTION_TIME, MAX_TRANSACTION_TIME)
        });
        timeout(longest, apply).await.unwrap_or_else(|_| {
            self.database.suspect_connections();
            Err(Failure::at_commit(given_up()))
        })
    }
}

/// The last deadline, or `None` if a caller has no deadline.
fn last_deadline(deadlines: impl Iterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.reduce(|last, deadline| Some(last?.max(deadline?))).flatten()
}

fn given_up() -> Error {
    Error::Unavailable("a transaction timed out".into())
}

/// Runs updates in one transaction and answers them. An update of a locked row runs on its own.
/// After a certain rollback all updates do, so that one update cannot fail the others.
async fn run_group(
    shared: &Arc<Shared>,
    mut begin: Pin<&mut MaybeDone<impl Future<Output = Begun>>>,
    jobs: Vec<Job>,
    transaction: Span,
) {
    begin.as_mut().await;
    let mut begun = begin.take_output().unwrap_or_else(|| Err(given_up()));
    let updates: Vec<_> = jobs.iter().map(Job::pending).collect();
    let last = last_deadline(jobs.iter().map(|job| job.call.deadline));
    let mut attempt = 1;
    let applied = loop {
        let (lock, atomicity) = (RowLock::SkipLocked, Atomicity::PerItem);
        match shared.apply(begun, &transaction, &updates, lock, atomicity, last).await {
            Err(failure) if failure.is_of_connection() && attempt < MAX_CONNECTION_ATTEMPTS => {
                attempt += 1;
                begun = shared.begin(&transaction).await;
            }
            applied => break applied,
        }
    };
    // End the span before the spans of its calls.
    transaction.end();
    let outcomes = match applied {
        Ok(outcomes) => outcomes,
        Err(failure) if failure.may_be_repeated() => {
            return jobs.into_iter().for_each(|job| spawn_single(shared, job));
        }
        Err(failure) => return unknown(jobs, &failure.error),
    };
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        match outcome {
            // `SKIP LOCKED` hides a locked row: the user may exist.
            Err(Error::UserNotFound(_)) => spawn_single(shared, job),
            outcome => job.answer(outcome),
        }
    }
}

/// Runs an update in its own transaction, which waits for the row lock. The task frees the writer.
fn spawn_single(shared: &Arc<Shared>, mut job: Job) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _connection = tokio::select! {
            () = job.answer.closed() => return,
            connection = shared.lone.acquire() => connection,
        };
        let outcomes =
            run_with_retry(&shared, &job.call, &[job.pending()], Atomicity::PerItem).await;
        job.answer(outcomes.and_then(|mut outcomes| outcomes.remove(0)));
    });
}

/// Runs a batch in its own transaction, which waits for the row locks.
fn spawn_batch(shared: &Arc<Shared>, mut batch: Batch) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _connection = tokio::select! {
            () = batch.answer.closed() => return,
            connection = shared.lone.acquire() => connection,
        };
        let outcomes =
            run_with_retry(&shared, &batch.call, &batch.pending(), Atomicity::AllOrNothing).await;
        batch.answer(outcomes);
    });
}

/// Runs a transaction that waits for row locks. Retries conflicts until the deadline.
async fn run_with_retry(
    shared: &Shared,
    call: &CallContext,
    updates: &[Pending<'_>],
    atomicity: Atomicity,
) -> Result<Vec<Result<Updated, Error>>, Error> {
    let (deadline, mut attempt) = (call.deadline, 1);
    loop {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::DeadlineExceeded);
        }
        let transaction = transaction(&call.span);
        let begun = shared.begin(&transaction).await;
        let lock = RowLock::Wait(deadline);
        let applied = shared.apply(begun, &transaction, updates, lock, atomicity, deadline).await;
        transaction.end();
        match applied {
            Err(failure) if is_conflict(&failure.error) && attempt < MAX_CONFLICT_ATTEMPTS => {
                attempt += 1;
            }
            Err(failure) if failure.is_of_connection() && attempt < MAX_CONNECTION_ATTEMPTS => {
                attempt += 1;
            }
            outcomes => return outcomes.map_err(|failure| failure.error),
        }
    }
}
