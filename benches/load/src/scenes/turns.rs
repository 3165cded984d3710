//! Compares two variants in alternating runs.

use crate::{
    arguments::Arguments,
    callers::{self, Call},
    database::Database,
    measured::{Figures, Run, median},
    profile,
    program::Program,
};

/// A variant: its name, its calls, and its programs.
pub(super) struct Way<'a> {
    pub(super) name: &'a str,
    pub(super) calls: &'a [Call],
    pub(super) programs: &'a [&'a Program],
}

/// The results of two variants.
pub(super) struct Turns {
    /// The figures of each variant.
    pub(super) figures: [Figures; 2],
    /// Rate of the second ÷ rate of the first variant: the median over the rounds.
    pub(super) ratio: f64,
}

/// Alternates two variants. Idle programs may keep running: they cost almost nothing.
pub(super) async fn play(
    database: &mut Database,
    arguments: &Arguments,
    callers: usize,
    ways: [Way<'_>; 2],
) -> Turns {
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=arguments.rounds {
        let mut turns: Vec<_> = ways.iter().zip(&mut runs).collect();
        // Swap the order, so that neither variant always runs second.
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
