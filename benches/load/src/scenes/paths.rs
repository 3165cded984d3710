//! Every path at every caller count, in interleaved rounds.

use crate::{
    arguments::Arguments,
    database::Database,
    measured::{Measured, Row},
    path::Path,
    program::Program,
    stage::Stage,
};

/// Plays the scene. Returns the idle service's memory in MB, and the table rows.
pub(crate) async fn play(database: Database, arguments: &Arguments) -> (Database, f64, Vec<Row>) {
    let mut stage = Stage::start(database).await;
    let idle = stage.service.memory().resident;
    stage.door = Some(Program::door(&stage.service).await);
    let mut measured = Measured::default();
    for round in 1..=arguments.rounds {
        println!("{}: paths, round {round}", stage.database.engine.name());
        for &callers in &arguments.callers {
            for path in Path::ALL {
                stage.run(path, callers, arguments.time(), &mut measured).await;
            }
        }
    }
    (stage.end().await, idle, measured.rows())
}
