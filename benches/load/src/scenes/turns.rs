//! Two ways of the same, by turns.

use crate::{
    Arguments,
    callers::{self, Call},
    database::Database,
    measured::{Figures, Run, median},
    profile,
    program::Program,
};

/// One way: its name, what is called, and the programs that answer.
pub(super) struct Way<'a> {
    pub(super) name: &'a str,
    pub(super) calls: &'a [Call],
    pub(super) programs: &'a [&'a Program],
}

/// What two ways gave.
pub(super) struct Turns {
    /// Each.
    pub(super) figures: [Figures; 2],
    /// The rate of the second ÷ that of the first: the median of the rounds, in each of which they are run one after the other.
    pub(super) ratio: f64,
}

/// Runs two ways by turns. Both may have programs that run all the time: an idle one costs next to nothing.
pub(super) async fn play(
    database: &mut Database,
    arguments: &Arguments,
    callers: usize,
    ways: [Way<'_>; 2],
) -> Turns {
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=arguments.rounds {
        let mut turns: Vec<_> = ways.iter().zip(&mut runs).collect();
        // None has the advantage of being the second each time.
        if round % 2 == 0 {
            turns.reverse();
        }
        for (way, runs) in turns {
            let run = callers::run(way.calls, callers, database.users, arguments.time());
            let run = profile::of(database, way.programs, run).await;
            database.acknowledge(run.times.len());
            println!(
                "{} round {round}, {callers} callers, {}: {:.0} a second",
                database.engine.name(),
                way.name,
                run.rate
            );
            runs.push(run);
        }
    }
    database.check().await;
    let pairs = runs[0].iter().zip(&runs[1]);
    let ratio = median(pairs.map(|(first, second)| second.rate / first.rate));
    let figures = runs.map(|runs| Figures::of(&runs));
    Turns { figures, ratio: ratio.expect("there is a round") }
}
