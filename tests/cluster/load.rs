//! The load on the replicas: writers at both entry points, and a subscription on each replica.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    checker::{Attempt, History, violations},
    program::Program,
    report::{Fault, Report},
    stored,
    support::{CONDITION_TIMEOUT, database::TestDatabase, until},
    watchers::Watcher,
    writers::{Replica, WRITERS, Writer},
};

/// The number of writers on an additional replica.
const OTHER_WRITERS: usize = 2;

/// The number of log errors per replica that a failed test shows.
const ERRORS: usize = 10;

/// Writers and subscriptions that run until [`Load::finish`].
pub struct Load {
    replicas: Vec<Replica>,
    deadline: Duration,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    writers: JoinSet<()>,
    /// The number of the next writer.
    numbers: usize,
    watchers: Vec<Watcher>,
    stop: CancellationToken,
    split_brain: Arc<AtomicBool>,
    report: Report,
}

impl Load {
    /// Starts to call replicas with this deadline, and waits until each replica acknowledges
    /// updates.
    pub async fn start(cluster: &'static str, programs: &[Program], deadline: Duration) -> Self {
        let replicas: Vec<_> = programs.iter().map(Replica::of).collect();
        let (mut watchers, split_brain) = (Vec::new(), Arc::<AtomicBool>::default());
        for replica in &replicas {
            watchers.push(Watcher::start(*replica, Arc::clone(&split_brain)).await);
        }
        let (attempts, stop) = (Arc::default(), CancellationToken::new());
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer::new(number, &replicas, deadline, Arc::clone(&split_brain));
            writers.spawn(write(writer, Arc::clone(&attempts), stop.clone()));
        }
        let (report, numbers) = (Report::new(cluster), WRITERS);
        let load = Self {
            replicas,
            deadline,
            attempts,
            writers,
            numbers,
            watchers,
            stop,
            split_brain,
            report,
        };
        load.until_acknowledged("the start").await;
        load
    }

    /// Starts writers on an additional replica. The recovery report excludes this replica.
    pub fn write_on(&mut self, program: &Program) -> Others {
        let (index, stop) = (self.replicas.len(), CancellationToken::new());
        let mut writers = JoinSet::new();
        for _ in 0..OTHER_WRITERS {
            let replica = Replica::of(program);
            let writer = Writer::on_another(self.numbers, replica, index, self.deadline);
            writers.spawn(write(writer, Arc::clone(&self.attempts), stop.clone()));
            self.numbers += 1;
        }
        Others { index, writers, stop }
    }

    /// Sets whether two servers accept writes: replicas may then read the old primary.
    pub fn split_brain(&self, is_split: bool) {
        self.split_brain.store(is_split, Ordering::Relaxed);
    }

    /// A fault that begins now.
    pub fn fault(&self, name: &'static str) -> Fault {
        Fault { name, begun: Instant::now() }
    }

    /// Waits until every replica acknowledges updates, and records the recovery time.
    pub async fn recovered(&mut self, fault: Fault) {
        self.until_acknowledged(fault.name).await;
        self.report.add(&fault, self.replicas.len(), &self.attempts.lock().unwrap());
    }

    /// The number of updates that one replica, or any replica, has acknowledged since a moment.
    pub fn acknowledged_since(&self, moment: Instant, replica: Option<usize>) -> usize {
        let attempts = self.attempts.lock().unwrap();
        let of_replica = |own: &&Attempt| replica.is_none_or(|replica| own.replica == replica);
        let times = attempts.iter().filter(of_replica).filter_map(Attempt::acknowledged);
        times.filter(|at| *at > moment).count()
    }

    /// Waits until every replica has acknowledged an update that begins after this call.
    async fn until_acknowledged(&self, fault: &str) {
        let moment = Instant::now();
        until(&format!("every replica acknowledges updates after: {fault}"), || async {
            let attempts = self.attempts.lock().unwrap();
            let new = attempts.iter().filter(|own| own.begun > moment);
            let acknowledged = new.filter(|own| own.acknowledged().is_some());
            let replicas: BTreeSet<_> = acknowledged.map(|own| own.replica).collect();
            (0..self.replicas.len()).all(|replica| replicas.contains(&replica))
        })
        .await;
    }

    /// Stops the load, and checks the history against the stored data.
    pub async fn finish(self, database: &TestDatabase, programs: &[Program]) {
        self.stop.cancel();
        self.writers.join_all().await;
        let (log, rows) = stored::read(database).await;
        let begun = Instant::now();
        let is_late = |watcher: &Watcher| watcher.count() < log.len();
        while self.watchers.iter().any(is_late) && begun.elapsed() < CONDITION_TIMEOUT {
            sleep(Duration::from_millis(10)).await;
        }
        let mut watches = Vec::new();
        for watcher in self.watchers {
            watches.push(watcher.stop().await);
        }
        let attempts = std::mem::take(&mut *self.attempts.lock().unwrap());
        self.report.print(&attempts, log.len());
        let history = History { attempts, log, rows, watches };
        let found = violations(&history);
        let logs: Vec<_> = programs.iter().map(|program| last_errors(&program.log())).collect();
        assert!(
            found.is_empty(),
            "{} violations:\n{}\n{}",
            found.len(),
            found.join("\n"),
            logs.join("\n")
        );
    }
}

/// Writers on an additional replica that run until [`Others::stop`].
pub struct Others {
    pub index: usize,
    writers: JoinSet<()>,
    stop: CancellationToken,
}

impl Others {
    /// Stops the writers after their calls are answered.
    pub async fn stop(self) {
        self.stop.cancel();
        self.writers.join_all().await;
    }
}

async fn write(mut writer: Writer, attempts: Arc<Mutex<Vec<Attempt>>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let attempt = writer.update().await;
        attempts.lock().unwrap().push(attempt.clone());
        writer.rest(&attempt).await;
    }
}

/// The last errors of a replica's log.
fn last_errors(log: &str) -> String {
    let errors = log.lines().rev().filter(|line| line.contains("\"ERROR\""));
    errors.take(ERRORS).collect::<Vec<_>>().join("\n")
}
