//! Results as figures.

use std::time::Duration;

use serde::Serialize;

use crate::{
    cost::{Cost, Used},
    path::Path,
};

/// The result of one run of a path.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Calls per second.
    pub(crate) rate: f64,
    /// The duration of each call.
    pub(crate) times: Vec<Duration>,
    /// Number of calls, including calls whose durations do not count.
    pub(crate) done: usize,
    /// Resources used, if measured.
    pub(crate) used: Used,
}

impl Run {
    /// A run of calls with these durations, all within a time.
    pub(crate) fn new(times: Vec<Duration>, within: Duration) -> Self {
        let (rate, done) = (count(times.len()) / within.as_secs_f64(), times.len());
        Self { rate, times, done, used: Used::default() }
    }
}

/// Several runs of a path: the median rate, and percentiles over all calls.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    /// Calls per second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
    /// Milliseconds.
    pub(crate) p999: f64,
    /// Cost per call; zero if not measured.
    pub(crate) cost: Cost,
}

impl Figures {
    /// The figures of several runs.
    pub(crate) fn of(runs: &[Run]) -> Self {
        let mut times: Vec<Duration> = runs.iter().flat_map(|run| &run.times).copied().collect();
        times.sort();
        let percentile = |permille: usize| {
            let index = (times.len() * permille / 1000).min(times.len().saturating_sub(1));
            times.get(index).copied().map_or(0.0, milliseconds)
        };
        let (mut used, mut calls) = (Used::default(), 0.0);
        for run in runs {
            used += run.used;
            calls += count(run.done);
        }
        Self {
            rate: median(runs.iter().map(|run| run.rate)).unwrap_or_default(),
            p50: percentile(500),
            p99: percentile(990),
            p999: percentile(999),
            cost: Cost::of(used, calls),
        }
    }
}

/// The conditions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    /// The engine's name.
    pub(crate) engine: &'static str,
    /// Number of users in the database.
    pub(crate) users: i64,
    /// Number of change log entries before the run.
    pub(crate) log_rows: i64,
    /// Number of parallel callers.
    pub(crate) callers: usize,
}

/// The runs of one path in one case.
#[derive(Clone, Debug)]
struct Series {
    case: Case,
    path: Path,
    runs: Vec<Run>,
    peak: Option<f64>,
}

/// The runs of every path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured(Vec<Series>);

impl Measured {
    /// Adds a run. `peak` is the service's peak memory, in MB.
    pub(crate) fn add(&mut self, case: Case, path: Path, run: Run, peak: Option<f64>) {
        match self.0.iter_mut().find(|own| own.path == path && own.case == case) {
            Some(own) => {
                own.runs.push(run);
                own.peak = own.peak.into_iter().chain(peak).reduce(f64::max);
            }
            None => self.0.push(Series { case, path, runs: vec![run], peak }),
        }
    }

    /// The rows of the table, each with its ratio to the limit in the same case.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let row = |own: &Series| Row {
            case: own.case,
            path: own.path,
            figures: Figures::of(&own.runs),
            peak: own.peak,
            to_limit: None,
            p50_to_limit: None,
        };
        let mut rows: Vec<Row> = self.0.iter().map(row).collect();
        let limits: Vec<Row> = rows.iter().filter(|row| row.path == Path::Limit).copied().collect();
        for row in &mut rows {
            if let Some(limit) = limits.iter().find(|limit| limit.case == row.case) {
                row.to_limit = Some(row.figures.rate / limit.figures.rate);
                row.p50_to_limit = Some(row.figures.p50 / limit.figures.p50);
            }
        }
        rows
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Row {
    /// The conditions.
    #[serde(flatten)]
    pub(crate) case: Case,
    /// The path.
    pub(crate) path: Path,
    /// The figures.
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// The service's peak memory, in MB.
    pub(crate) peak: Option<f64>,
    /// Rate ÷ rate of the limit.
    pub(crate) to_limit: Option<f64>,
    /// p50 ÷ p50 of the limit.
    pub(crate) p50_to_limit: Option<f64>,
}

/// The median; `None` without values.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = figures.get(middle)?;
    let lower = if figures.len().is_multiple_of(2) { &figures[middle - 1] } else { upper };
    Some(f64::midpoint(*lower, *upper))
}

/// A count as a floating-point number.
pub(crate) fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
