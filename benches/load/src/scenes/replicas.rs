//! Two replicas beside one, on one database and the same processors.

use serde::Serialize;

use crate::{
    Arguments,
    callers::{self, Call},
    database::Database,
    measured::{Figures, Run},
    program::Program,
};

/// How many callers there are; two replicas share them.
const CALLERS: usize = 64;

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Replicas {
    /// With one replica.
    pub(crate) one: Figures,
    /// With two.
    pub(crate) two: Figures,
}

/// Plays the scene. Both replicas run all the time: an idle one costs next to nothing.
pub(crate) async fn play(database: &mut Database, arguments: &Arguments) -> Replicas {
    let first = Program::service(&database.url).await;
    let second = Program::service(&database.url).await;
    let calls = [Call::Update(first.grpc()), Call::Update(second.grpc())];
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=arguments.rounds {
        for (replicas, runs) in (1..).zip(&mut runs) {
            let (calls, users) = (&calls[..replicas], database.users);
            let run = callers::run(calls, CALLERS, users, arguments.time()).await;
            database.acknowledge(run.times.len());
            println!(
                "{} round {round}, {replicas} of 2 replicas: {:.0} a second",
                database.engine.name(),
                run.rate
            );
            runs.push(run);
        }
    }
    database.check().await;
    first.stop().await;
    second.stop().await;
    Replicas { one: Figures::of(&runs[0]), two: Figures::of(&runs[1]) }
}
