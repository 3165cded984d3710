//! The performance goals and their results.

use std::ops::RangeInclusive;

use serde::Serialize;

use crate::{
    measured::Row,
    path::Path,
    results::Results,
    scenes::{Choice, Played},
};

/// The bound of a figure.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    /// The minimum.
    AtLeast(f64),
    /// The maximum.
    AtMost(f64),
}

impl Bound {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(formatter, "≥ {bound}"),
            Self::AtMost(bound) => write!(formatter, "≤ {bound}"),
        }
    }
}

/// A goal with its measured figure. A figure without bounds is for comparison only.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Goal {
    /// The engine's name.
    engine: &'static str,
    /// The name of the figure.
    goal: &'static str,
    /// The measured figure.
    figure: f64,
    /// The required bound.
    must: Option<Bound>,
    /// The bound to aim at.
    aim: Option<Bound>,
    /// Whether the required bound is met.
    met: Option<bool>,
    /// Whether the aim is met.
    aim_met: Option<bool>,
}

/// The goals of all results.
pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    let mut goals: Vec<Goal> = results.engines.iter().flat_map(of_engine).collect();
    let size = Some(results.binary);
    goals.extend(goal("every", "stripped binary, MB", size, most(30.0), most(15.0)));
    goals
}

fn least(bound: f64) -> Option<Bound> {
    Some(Bound::AtLeast(bound))
}

fn most(bound: f64) -> Option<Bound> {
    Some(Bound::AtMost(bound))
}

/// A goal, if its figure was measured.
fn goal(
    engine: &'static str,
    goal: &'static str,
    figure: Option<f64>,
    must: Option<Bound>,
    aim: Option<Bound>,
) -> Option<Goal> {
    figure.map(|figure| {
        let is_met = |bound: Option<Bound>| bound.map(|bound| bound.is_met(figure));
        Goal { engine, goal, figure, must, aim, met: is_met(must), aim_met: is_met(aim) }
    })
}

fn of_engine(played: &Played) -> Vec<Goal> {
    let own = |name, figure, must, aim| goal(played.engine, name, figure, must, aim);
    let rows = &played.paths;
    let mut goals = match played.engine {
        "SQLite" => {
            let to_32 = ratio(rows, 32..=usize::MAX, Path::Rpc, Path::LimitOf32);
            vec![
                own(
                    "RPC ÷ limit, 32 callers and more",
                    ratio(rows, 32..=usize::MAX, Path::Rpc, Path::Limit),
                    least(1.2),
                    least(2.5),
                ),
                own("RPC ÷ limit of 32 per commit", to_32, least(0.35), least(0.6)),
            ]
        }
        engine => {
            let to_limit = ratio(rows, 16..=64, Path::Rpc, Path::Limit);
            let must = if engine == "PostgreSQL" { 0.8 } else { 0.75 };
            vec![own("RPC ÷ limit, 16 to 64 callers", to_limit, least(must), least(1.0))]
        }
    };
    let alone = |path| find(rows, path, 1).and_then(|row| row.p50_to_limit);
    let spread = find(rows, Path::Rpc, 64).map(|row| row.figures.p99 / row.figures.p50);
    let any = 1..=usize::MAX;
    let peaks = rows.iter().filter(|row| row.case.callers == 512).filter_map(|row| row.peak);
    goals.extend([
        own("one caller: p50 RPC ÷ limit", alone(Path::Rpc), most(1.5), most(1.2)),
        own("one caller: p50 of an empty call ÷ limit", alone(Path::Ping), None, None),
        own(
            "door ÷ RPC",
            ratio(rows, any.clone(), Path::Gateway, Path::Rpc),
            least(0.9),
            least(1.0),
        ),
        own(
            "door ÷ RPC with as many connections",
            ratio(rows, any.clone(), Path::Gateway, Path::RpcApart),
            None,
            None,
        ),
        own(
            "door of its own ÷ RPC",
            ratio(rows, any, Path::StandaloneGateway, Path::Rpc),
            least(0.9),
            least(1.0),
        ),
        own("RPC, 64 callers: p99 ÷ p50", spread, most(6.0), most(4.0)),
        own("memory when idle, MB", played.idle, most(25.0), most(20.0)),
        own("memory at 512 callers, MB", peaks.reduce(f64::max), most(80.0), most(60.0)),
    ]);
    goals.extend(of_scenes(played));
    let aucs = played.hashes.iter().map(|kind| (kind.auc - 0.5).abs());
    let name = "wrong hashes: the worst |AUC − 0.5|";
    goals.push(own(name, aucs.reduce(f64::max), most(0.02), None));
    let ratios = played.keys.iter().map(|keys| keys.ratio);
    let name = "one caller: p50 with 1,000 client keys ÷ one";
    goals.push(own(name, ratios.reduce(f64::max), most(1.05), None));
    goals.into_iter().flatten().collect()
}

fn of_scenes(played: &Played) -> Vec<Option<Goal>> {
    let own = |name, figure, must, aim| goal(played.engine, name, figure, must, aim);
    let (must, aim) = match played.engine {
        "SQLite" => (most(50.0), most(15.0)),
        "PostgreSQL" => (most(100.0), most(50.0)),
        _ => (None, None),
    };
    let start = played.start.as_ref().map(|start| start.median);
    let over = played.overload.as_ref();
    let accepted = over.map(|over| over.accepted.rate / over.capacity.rate);
    let patience = over.map(|over| over.accepted.p99 / over.capacity.p99);
    let telemetry = played.telemetry.map(|telemetry| telemetry.ratio);
    let replicas = played.replicas.map(|replicas| replicas.ratio);
    let gain = |choices: &[Choice]| choices.iter().map(|own| own.ratio).reduce(f64::min);
    let (believed, gathering) = (gain(&played.settings), gain(&played.gather));
    vec![
        own("start to first answer, ms", start, must, aim),
        own(
            "start to first answer without TLS to the server, ms",
            played.start.as_ref().and_then(|start| start.without_tls),
            must,
            aim,
        ),
        own(
            "overload: sent ÷ capacity",
            over.map(|over| over.sent / over.capacity.rate),
            None,
            None,
        ),
        own("overload: accepted ÷ capacity", accepted, None, None),
        own("overload: p99 ÷ that at capacity", patience, most(5.0), None),
        own("overload: refused ÷ sent", over.map(|over| over.refused), None, None),
        own("overload: memory, MB", over.map(|over| over.peak), None, None),
        own(
            "overload: memory ÷ that at capacity",
            over.map(|over| over.peak / over.capacity_peak),
            None,
            None,
        ),
        own(
            "overload: memory in the last round ÷ in the first",
            over.map(|over| over.peak / over.first_peak),
            most(1.1),
            None,
        ),
        own("telemetry ÷ none, 64 callers", telemetry, least(0.95), None),
        own("two replicas ÷ one, 64 callers", replicas, least(0.9), None),
        own("door: settings believed ÷ read", believed, None, None),
        own("updates that gather ÷ that do not", gathering, None, None),
        own(
            "singles beside a batch of 1000: p99 ÷ usual",
            played.batch.map(|batch| batch.beside.p99 / batch.alone.p99),
            most(5.0),
            None,
        ),
        own(
            "users a second by batches ÷ by 16 callers",
            played.batch.map(|batch| batch.users / batch.alone.rate),
            None,
            None,
        ),
        own(
            "updates while one watches all ÷ nobody",
            played.watch.map(|watch| watch.everything.rate / watch.nobody.rate),
            least(0.9),
            None,
        ),
        own(
            "updates while 100 watch a user each ÷ nobody",
            played.watch.map(|watch| watch.single_users.rate / watch.nobody.rate),
            least(0.9),
            None,
        ),
        own("update to event, p50 ms", played.watch.map(|watch| watch.event.p50), None, None),
        own("update to event, p99 ms", played.watch.map(|watch| watch.event.p99), None, None),
        own(
            "pages of 10⁶ users ÷ of --users, the worst list",
            played.list.iter().map(|list| list.large.rate / list.small.rate).reduce(f64::min),
            least(0.85),
            None,
        ),
        own("RPC, largest table ÷ smallest", largest(&played.sizes), least(0.85), least(0.95)),
        own("RPC, long log ÷ empty", long_log(&played.sizes), least(0.85), least(0.95)),
    ]
}

fn find(rows: &[Row], path: Path, callers: usize) -> Option<&Row> {
    rows.iter().find(|row| row.path == path && row.case.callers == callers)
}

/// Rate of `path` ÷ rate of `other`: the minimum over caller counts.
fn ratio(rows: &[Row], callers: RangeInclusive<usize>, path: Path, other: Path) -> Option<f64> {
    let own = rows.iter().filter(|row| row.path == path && callers.contains(&row.case.callers));
    let ratios = own.filter_map(|row| {
        find(rows, other, row.case.callers).map(|other| row.figures.rate / other.figures.rate)
    });
    ratios.reduce(f64::min)
}

/// Rate of a row ÷ rate of its path on the smallest table with an empty log, the first row.
pub(crate) fn to_smallest(rows: &[Row], row: &Row) -> Option<f64> {
    find(rows, row.path, row.case.callers).map(|first| row.figures.rate / first.figures.rate)
}

fn largest(rows: &[Row]) -> Option<f64> {
    let users = rows.iter().map(|row| row.case.users).max()?;
    let is_largest = |row: &&Row| row.path == Path::Rpc && row.case.users == users;
    let smallest = rows.first()?.case.users;
    worst(rows, |row| is_largest(&row) && users > smallest)
}

fn long_log(rows: &[Row]) -> Option<f64> {
    let longest = rows.iter().map(|row| row.case.log_rows).max().filter(|longest| *longest > 0)?;
    worst(rows, |row| row.path == Path::Rpc && row.case.log_rows == longest)
}

/// Rate of the chosen rows ÷ rate on the smallest table: the minimum over caller counts.
fn worst(rows: &[Row], chosen: impl Fn(&Row) -> bool) -> Option<f64> {
    let own = rows.iter().filter(|row| chosen(row));
    own.filter_map(|row| to_smallest(rows, row)).reduce(f64::min)
}

/// Prints the goals as a table.
pub(crate) fn print(goals: &[Goal]) {
    println!("\n| engine | goal | figure | at least | aim | met |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let text = |bound: Option<Bound>| bound.map_or("—".to_owned(), |bound| bound.to_string());
    for own in goals {
        let met = match (own.met, own.aim_met) {
            (None, _) => "—",
            (Some(false), _) => "no",
            (Some(true), Some(true)) => "yes, and the aim",
            (Some(true), _) => "yes",
        };
        let (must, aim) = (text(own.must), text(own.aim));
        println!("| {} | {} | {:.2} | {must} | {aim} | {met} |", own.engine, own.goal, own.figure);
    }
}
