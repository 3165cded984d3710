//! Recovery times.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use tokio::time::Instant;

use crate::checker::Attempt;

/// A fault, or its end.
pub struct Fault {
    pub name: &'static str,
    pub begun: Instant,
}

/// The cost of a fault for the most affected replica.
struct Recovery {
    fault: &'static str,
    /// Time until the acknowledgement of an update that began after the fault.
    first: Duration,
    /// The longest time without an acknowledged update.
    pause: Duration,
}

/// The recoveries of one cluster.
pub struct Report {
    cluster: &'static str,
    begun: Instant,
    recoveries: Vec<Recovery>,
}

impl Report {
    pub fn new(cluster: &'static str) -> Self {
        Self { cluster, begun: Instant::now(), recoveries: Vec::new() }
    }

    /// Adds the cost of a fault, once every replica acknowledges updates again.
    pub fn add(&mut self, fault: &Fault, replicas: usize, attempts: &[Attempt]) {
        let (mut first, mut pause) = (Duration::ZERO, Duration::ZERO);
        for replica in 0..replicas {
            let acknowledged = attempts.iter().filter(|own| own.replica == replica);
            let acknowledged =
                acknowledged.filter_map(|own| Some((own.begun, own.acknowledged()?)));
            let mut times: Vec<_> = acknowledged.filter(|(_, at)| *at > fault.begun).collect();
            times.sort_by_key(|(_, at)| *at);
            let after = times.iter().find(|(begun, _)| *begun >= fault.begun);
            first = first.max(after.map_or(Duration::MAX, |(_, at)| *at - fault.begun));
            let mut last = fault.begun;
            for (_, at) in times {
                pause = pause.max(at - last);
                last = at;
            }
        }
        self.recoveries.push(Recovery { fault: fault.name, first, pause });
    }

    /// Writes to the terminal: the test runner hides the output of tests that pass.
    pub fn print(&self, attempts: &[Attempt], entries: usize) {
        let acknowledged = attempts.iter().filter(|own| own.acknowledged().is_some()).count();
        let mut table = format!(
            "\n{}: {} updates sent, {acknowledged} acknowledged, {entries} entries, {:.0} s\n",
            self.cluster,
            attempts.len(),
            self.begun.elapsed().as_secs_f64()
        );
        let _ = writeln!(table, "{:<60} {:>12} {:>12}", "", "first update", "longest gap");
        for Recovery { fault, first, pause } in &self.recoveries {
            let (first, pause) = (first.as_secs_f64(), pause.as_secs_f64());
            let _ = writeln!(table, "{fault:<60} {first:>10.1} s {pause:>10.1} s");
        }
        let _ = write!(std::io::stderr(), "{table}");
    }
}
