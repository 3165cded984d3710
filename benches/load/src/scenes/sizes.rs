//! Tables of several sizes, and long logs compared with an empty log, in interleaved rounds.

use std::time::Duration;

use crate::{
    arguments::Arguments,
    database::Database,
    engine::Engine,
    measured::{Measured, Row},
    path::Path,
    stage::Stage,
};

/// Numbers of callers.
const CALLERS: [usize; 2] = [16, 64];
/// The measured paths.
const PATHS: [Path; 3] = [Path::Limit, Path::Rpc, Path::Get];

/// Plays the scene. Returns the table rows; the smallest table with an empty log comes first.
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

/// Fills the caches as far as memory allows. The measurements are discarded.
async fn warm(stage: &mut Stage, time: Duration) {
    stage.database.read_all().await;
    for path in PATHS {
        stage.run(path, CALLERS[1], time, &mut Measured::default()).await;
    }
}
