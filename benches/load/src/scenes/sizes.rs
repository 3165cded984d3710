//! Tables of several sizes, and an empty log beside a long one, in interleaved rounds.

use std::time::Duration;

use crate::{
    Arguments,
    database::Database,
    engine::Engine,
    measured::{Measured, Row},
    path::{Path, Stage},
};

/// How many callers there are.
const CALLERS: [usize; 2] = [16, 64];
/// What is run.
const PATHS: [Path; 3] = [Path::Limit, Path::Rpc, Path::Get];

/// Plays the scene. Answers the rows of the table, those of the smallest one with an empty log first.
pub(crate) async fn play(engine: &Engine, arguments: &Arguments) -> Vec<Row> {
    let mut sizes = arguments.sizes.clone();
    if sizes.is_empty() {
        sizes.push(arguments.users);
    }
    sizes.sort_unstable();
    sizes.dedup();
    let long_logs = arguments.log_rows.iter().map(|log_rows| (sizes[0], *log_rows));
    let cases = sizes.iter().map(|users| (*users, 0)).chain(long_logs);

    let mut stages = Vec::new();
    for (users, log_rows) in cases {
        stages.push(Stage::start(Database::filled(engine, users, log_rows).await).await);
    }
    for stage in &mut stages {
        warm(stage, arguments.time()).await;
    }
    let mut measured = Measured::default();
    for round in 1..=arguments.rounds {
        println!("{}: sizes, round {round}", engine.name());
        for callers in CALLERS {
            for path in PATHS {
                for stage in &mut stages {
                    stage.run(path, callers, arguments.time(), &mut measured).await;
                }
            }
        }
    }
    for stage in stages {
        stage.end().await.close().await;
    }
    measured.rows()
}

/// Has the caches filled, as far as the server has memory: what this measures counts for nothing.
async fn warm(stage: &mut Stage, time: Duration) {
    stage.database.read_all().await;
    for path in PATHS {
        stage.run(path, CALLERS[1], time, &mut Measured::default()).await;
    }
}
