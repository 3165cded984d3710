//! Batches of 1000 updates, and single updates beside batches.

use serde::Serialize;

use crate::{
    arguments::Arguments,
    callers::{self, BATCH, Call},
    database::Database,
    measured::{Figures, Run, count},
    program::Program,
};

/// Number of callers of single updates.
const CALLERS: usize = 16;

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Batch {
    /// Single updates alone.
    pub(crate) alone: Figures,
    /// Batches of one caller, alone.
    pub(crate) batches: Figures,
    /// Users updated per second by batches.
    pub(crate) users: f64,
    /// Single updates while a batch is always running.
    pub(crate) beside: Figures,
}

/// Plays the scene.
pub(crate) async fn play(database: &mut Database, arguments: &Arguments) -> Batch {
    let service = Program::service(&database.url).await;
    let (single, batch) = ([Call::Update(service.grpc())], [Call::Batch(service.grpc())]);
    // Separate users: row locks of a batch would make single updates wait in any service.
    let (users, time) = (0..database.users / 2, arguments.time());
    let others = users.end..database.users;
    let mut runs: [Vec<Run>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..arguments.rounds {
        let alone = callers::run_on(&single, CALLERS, users.clone(), time).await;
        let batches = callers::run_on(&batch, 1, others.clone(), time).await;
        let (beside, more) = tokio::join!(
            callers::run_on(&single, CALLERS, users.clone(), time),
            callers::run_on(&batch, 1, others.clone(), time)
        );
        let stored = (batches.times.len() + more.times.len()) * BATCH;
        database.acknowledge(alone.times.len() + beside.times.len() + stored);
        for (runs, run) in runs.iter_mut().zip([alone, batches, beside]) {
            runs.push(run);
        }
    }
    database.check().await;
    service.stop().await;
    let [alone, batches, beside] = runs.map(|runs| Figures::of(&runs));
    let users = batches.rate * count(BATCH);
    println!(
        "{}: singles {alone:.1?}, batches {batches:.1?}, beside them {beside:.1?}",
        database.engine.name()
    );
    Batch { alone, batches, users, beside }
}
