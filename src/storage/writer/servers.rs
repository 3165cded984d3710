//! The writers on a server: several tasks, each with a transaction of its own.

use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{
    FutureExt,
    future::{MaybeDone, maybe_done},
};
use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::{Instant, sleep, timeout},
};

use super::{Batch, Job, MOST, Traced, Work, split, transaction, unknown};
use crate::{
    domain::{
        error::Error,
        update::{Update, Updated},
    },
    storage::{
        asynchronous::{statements::RowLock, transaction::Atomicity},
        connect::{Options, PATIENCE, begin_syncs},
        connection_limiter::{ConnectionLimiter, UseTimer},
        failure::{Failure, breakage, is_conflict},
        repository::{self, Database},
    },
    trace::Span,
};

/// How many transactions are under way at once. With one more each is smaller, and all together slower.
const WRITERS: u32 = 2;
/// How often a transaction is run that loses against another one.
const ATTEMPTS: u32 = 5;

/// How often a transaction is run whose connection is of no use.
const UNUSABLE_ATTEMPTS: u32 = 3;

/// How long a transaction may take once it has begun: longer than its statements wait for locks.
const LONGEST: Duration = Duration::from_secs(15);
/// How long it may take however soon its callers go: a disk may be slow.
const SHORTEST: Duration = Duration::from_secs(2);
/// How much longer than its callers wait: the server ends its statements before.
const SERVER_SLACK: Duration = Duration::from_millis(500);

/// How long other connections are tried where one is of no use.
const OTHER_CONNECTIONS: Duration = Duration::from_secs(1);

/// How long to wait before the next one.
const REST: Duration = Duration::from_millis(10);

/// What the writers of a database share.
struct Shared {
    database: Arc<Database>,
    queue: Mutex<mpsc::UnboundedReceiver<Work>>,
    gathering: Gathering,
    /// For the updates that go their own way: they wait for locks, and must leave connections to the others.
    lone: ConnectionLimiter,
}

/// How many of the connections to a server may write at once.
pub(in crate::storage) fn writing(connections: u32) -> u32 {
    WRITERS + (connections / 4).max(1)
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
        // A panic ends what was taken and not the writer.
        match AssertUnwindSafe(next_group(&shared)).catch_unwind().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => tracing::error!("a transaction has panicked"),
        }
    }
}

/// Takes what waits, and runs it. Answers whether there was any: nothing comes any more if not.
async fn next_group(shared: &Arc<Shared>) -> bool {
    let mut work = Vec::with_capacity(MOST);
    let mut queue = shared.queue.lock().await;
    if queue.recv_many(&mut work, MOST).await == 0 {
        return false;
    }
    // There is one for each writer, which does not wait for it.
    let _connection = UseTimer::new(shared.database.pools().queue.pool);
    let traced = Traced::of(work.iter().filter_map(|work| match work {
        Work::One(job) => Some(job),
        Work::All(_) | Work::Wake => None,
    }));
    let mut begin = pin!(maybe_done(traced.span.instrument(shared.begin())));
    let begins_later = begin_syncs();
    shared.gathering.gather(&mut queue, &mut work, begin.as_mut(), begins_later).await;
    // The other writer sees it as soon as it has the queue.
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

/// A transaction, or why it could not begin.
type Begun = Result<repository::Begun, Error>;

/// How many updates a transaction takes.
struct Gathering {
    /// How long a writer waits at most for as many updates as the other one has under way.
    patience: Duration,
    /// How many updates the writers have under way.
    under_way: AtomicUsize,
    /// A writer has ended its transaction.
    ended: Notify,
}

/// So many updates are under way, until this is dropped.
struct UnderWay<'a>(&'a Gathering, usize);

impl<'a> UnderWay<'a> {
    fn new(gathering: &'a Gathering, number: usize) -> Self {
        gathering.under_way.fetch_add(number, Ordering::Relaxed);
        Self(gathering, number)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(self.1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}

impl Gathering {
    fn new(patience: Duration) -> Self {
        Self { patience, under_way: AtomicUsize::new(0), ended: Notify::new() }
    }

    /// Takes more, while a transaction begins, unless it `begins_later`, for the updates that were taken; and as much as the other writer has under way, if
    /// that comes before it ends: what one transaction has answered comes back bit by bit, and to go on with the first of it
    /// would make many small ones.
    async fn gather(
        &self,
        queue: &mut mpsc::UnboundedReceiver<Work>,
        work: &mut Vec<Work>,
        mut begin: Pin<&mut MaybeDone<impl Future>>,
        begins_later: bool,
    ) {
        let mut patience = pin!(sleep(self.patience));
        loop {
            let ended = self.ended.notified();
            let room = MOST - work.len();
            let has_begun = matches!(*begin, MaybeDone::Done(_));
            let begins =
                !begins_later && !has_begun && work.iter().any(|work| matches!(work, Work::One(_)));
            let other = self.under_way.load(Ordering::Relaxed);
            let enough = self.patience.is_zero() || work.len() >= other;
            if room == 0 || (enough && !begins) {
                return;
            }
            // Nothing that was received is lost where another branch is first.
            tokio::select! {
                biased;
                () = begin.as_mut(), if begins => {}
                more = queue.recv_many(work, room) => if more == 0 { return },
                () = ended => {}
                () = patience.as_mut() => return,
            }
        }
    }
}

impl Shared {
    /// Begins a transaction, on another connection where that of the pool had died while it was idle.
    async fn begin(&self) -> Begun {
        let tried = Instant::now();
        let begin = async {
            let mut attempt = 1;
            loop {
                let may_repeat = attempt < UNUSABLE_ATTEMPTS || tried.elapsed() < OTHER_CONNECTIONS;
                match self.database.begin().await {
                    Err(error) if breakage(&error).is_some() && may_repeat => sleep(REST).await,
                    begun => return begun,
                }
                attempt += 1;
            }
        };
        // The pool gives up by itself, and says so.
        let patience = PATIENCE + OTHER_CONNECTIONS;
        timeout(patience, begin).await.unwrap_or_else(|_| Err(given_up()))
    }

    /// Runs a transaction. One that does not end is given up, so that the writer goes on: soon after
    /// the last of its callers has gone.
    async fn apply(
        &self,
        begun: Begun,
        updates: &[(&Update, DateTime<Utc>)],
        lock: RowLock,
        atomicity: Atomicity,
        last_deadline: Option<Instant>,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        let apply = self.database.apply(begun?, updates, lock, atomicity);
        let longest = last_deadline.map_or(LONGEST, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()) + SERVER_SLACK;
            left.clamp(SHORTEST, LONGEST)
        });
        timeout(longest, apply).await.unwrap_or_else(|_| {
            self.database.suspect_connections();
            Err(Failure::at_commit(given_up()))
        })
    }
}

/// The last deadline, if all have one.
fn last_deadline(deadlines: impl Iterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.reduce(|last, deadline| Some(last?.max(deadline?))).flatten()
}

fn given_up() -> Error {
    Error::Unavailable("a transaction did not end".into())
}

/// Runs updates in one transaction, and answers them. Those whose users are locked by others, or all of them if it was
/// certainly rolled back for what one of them did, go their own ways: none harms another.
async fn run_group(
    shared: &Arc<Shared>,
    mut begin: Pin<&mut MaybeDone<impl Future<Output = Begun>>>,
    jobs: Vec<Job>,
    transaction: Span,
) {
    begin.as_mut().await;
    let mut begun = begin.take_output().unwrap_or_else(|| Err(given_up()));
    let updates: Vec<_> = jobs.iter().map(|job| (&job.update, job.now)).collect();
    let last = last_deadline(jobs.iter().map(|job| job.deadline));
    let mut attempt = 1;
    let applied = loop {
        let applied = shared.apply(begun, &updates, RowLock::SkipLocked, Atomicity::PerItem, last);
        match transaction.instrument(applied).await {
            Err(failure) if failure.is_of_connection() && attempt < UNUSABLE_ATTEMPTS => {
                attempt += 1;
                begun = transaction.instrument(shared.begin()).await;
            }
            applied => break applied,
        }
    };
    // Before the calls that are in it.
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
            // Of a row that is locked there is nothing to be seen.
            Err(Error::UserNotFound) => spawn_single(shared, job),
            outcome => job.answer(outcome),
        }
    }
}

/// Runs an update in a transaction of its own, which waits for its user's lock. In a task: the writer goes on.
fn spawn_single(shared: &Arc<Shared>, mut job: Job) {
    let shared = Arc::clone(shared);
    let span = job.span.clone();
    let run = async move {
        let _connection = tokio::select! {
            () = job.answer.closed() => return,
            connection = shared.lone.acquire() => connection,
        };
        let outcomes =
            run_with_retry(&shared, &[(&job.update, job.now)], Atomicity::PerItem, job.deadline)
                .await;
        job.answer(outcomes.and_then(|mut outcomes| outcomes.remove(0)));
    };
    tokio::spawn(span.instrument(run));
}

/// Runs a batch likewise.
fn spawn_batch(shared: &Arc<Shared>, mut batch: Batch) {
    let shared = Arc::clone(shared);
    let span = batch.span.clone();
    let run = async move {
        let _connection = tokio::select! {
            () = batch.answer.closed() => return,
            connection = shared.lone.acquire() => connection,
        };
        let outcomes =
            run_with_retry(&shared, &batch.updates(), Atomicity::AllOrNothing, batch.deadline)
                .await;
        batch.answer(outcomes);
    };
    tokio::spawn(span.instrument(run));
}

/// Runs a transaction that waits for locks, again where it loses against another one; not when its caller has gone.
async fn run_with_retry(
    shared: &Shared,
    updates: &[(&Update, DateTime<Utc>)],
    atomicity: Atomicity,
    deadline: Option<Instant>,
) -> Result<Vec<Result<Updated, Error>>, Error> {
    let mut attempt = 1;
    loop {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::DeadlineExceeded);
        }
        let transaction = transaction(&Span::current());
        let begun = transaction.instrument(shared.begin()).await;
        let applied = shared.apply(begun, updates, RowLock::Wait(deadline), atomicity, deadline);
        let applied = transaction.instrument(applied).await;
        transaction.end();
        match applied {
            Err(failure) if is_conflict(&failure.error) && attempt < ATTEMPTS => attempt += 1,
            Err(failure) if failure.is_of_connection() && attempt < UNUSABLE_ATTEMPTS => {
                attempt += 1;
            }
            outcomes => return outcomes.map_err(|failure| failure.error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    /// How many updates are taken where one came and `more` follow after a second each, while `under_way` are under way, which
    /// end after `ends`; and how long that took.
    async fn gathered(
        patience: Duration,
        under_way: usize,
        more: usize,
        ends: Duration,
    ) -> (usize, Duration) {
        let gathering = Gathering::new(patience);
        let (sender, mut queue) = mpsc::unbounded_channel();
        let mut work = vec![Work::Wake];
        let mut begin = pin!(maybe_done(std::future::ready(())));
        let begun = Instant::now();
        let others = async {
            let _under_way = UnderWay::new(&gathering, under_way);
            sleep(ends).await;
        };
        let senders = async {
            for _ in 0..more {
                sleep(Duration::from_secs(1)).await;
                let _ = sender.send(Work::Wake);
            }
            std::future::pending::<()>().await;
        };
        let taken = async {
            gathering.gather(&mut queue, &mut work, begin.as_mut(), false).await;
            (work.len(), begun.elapsed())
        };
        tokio::select! {
            biased;
            ((), taken) = async { tokio::join!(others, taken) } => taken,
            () = senders => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_taken_as_are_under_way_elsewhere() {
        let never = Duration::from_secs(60);
        let seconds = Duration::from_secs;
        assert_eq!(gathered(PATIENCE, 0, 1, never).await, (1, seconds(0)));
        assert_eq!(gathered(PATIENCE, 1, 1, never).await, (1, seconds(0)));
        assert_eq!(gathered(PATIENCE, 2, 1, never).await, (2, seconds(1)));
        assert_eq!(gathered(PATIENCE, 3, 1, never).await, (2, PATIENCE));
        assert_eq!(
            gathered(PATIENCE, 2, 0, Duration::from_millis(300)).await,
            (1, Duration::from_millis(300))
        );
        assert_eq!(gathered(Duration::ZERO, 3, 1, never).await, (1, seconds(0)));
    }

    /// On a Galera cluster an update that joins after `BEGIN` could read what another node has replaced.
    #[tokio::test(start_paused = true)]
    async fn a_transaction_that_begins_later_is_not_begun_while_updates_gather() {
        let gathering = Gathering::new(PATIENCE);
        let (_sender, mut queue) = mpsc::unbounded_channel();
        let mut work = vec![Work::Wake];
        let mut begin = pin!(maybe_done(std::future::poll_fn(|_| -> Poll<()> {
            panic!("it begins while updates gather")
        })));
        let _other = UnderWay::new(&gathering, 2);
        gathering.gather(&mut queue, &mut work, begin.as_mut(), true).await;
        assert_eq!(work.len(), 1);
    }
}
