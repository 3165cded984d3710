//! Two replicas compared with one, on the same database and processors.

use serde::Serialize;

use super::turns::{self, Way};
use crate::{
    arguments::Arguments, callers::Call, database::Database, measured::Figures, program::Program,
};

/// Number of callers; two replicas share them.
const CALLERS: usize = 64;

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Replicas {
    /// With one replica.
    pub(crate) one: Figures,
    /// With two replicas.
    pub(crate) two: Figures,
    /// Rate of two replicas ÷ rate of one.
    pub(crate) ratio: f64,
}

/// Plays the scene. Both replicas run all the time: an idle replica costs almost nothing.
pub(crate) async fn play(database: &mut Database, arguments: &Arguments) -> Replicas {
    let first = Program::service(&database.url).await;
    let second = Program::service(&database.url).await;
    let calls = [Call::Update(first.grpc()), Call::Update(second.grpc())];
    let programs = [&first, &second];
    let ways = [
        Way { name: "one of 2 replicas", calls: &calls[..1], programs: &programs },
        Way { name: "2 replicas", calls: &calls, programs: &programs },
    ];
    let turns = turns::play(database, arguments, CALLERS, ways).await;
    let [one, two] = turns.figures;
    first.stop().await;
    second.stop().await;
    Replicas { one, two, ratio: turns.ratio }
}
