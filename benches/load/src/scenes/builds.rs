//! Another build of the program compared with this build, in alternating runs.

use std::path::Path;

use serde::Serialize;

use super::turns::{self, Way};
use crate::{
    arguments::Arguments, callers::Call, database::Database, measured::Figures, program::Program,
};

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Builds {
    /// The path: `RPC` or `gateway`.
    pub(crate) path: &'static str,
    /// Number of callers.
    pub(crate) callers: usize,
    /// The other build.
    pub(crate) before: Figures,
    /// This build.
    pub(crate) now: Figures,
    /// Rate of this build ÷ rate of the other build.
    pub(crate) ratio: f64,
}

/// Plays the scene. Both builds run on one database.
pub(crate) async fn play(
    database: &mut Database,
    arguments: &Arguments,
    before: &Path,
) -> Vec<Builds> {
    let now = Program::service(&database.url).await;
    let before = Program::service_of(before, &database.url).await;
    let mut builds = Vec::new();
    for (path, is_legacy) in [("RPC", false), ("gateway", true)] {
        let call = |service: &Program| match is_legacy {
            true => Call::Legacy(service.http),
            false => Call::Update(service.grpc()),
        };
        for &callers in &arguments.callers {
            let (before_name, now_name) = (format!("{path}, before"), format!("{path}, now"));
            let ways = [
                Way { name: &before_name, calls: &[call(&before)], programs: &[&before] },
                Way { name: &now_name, calls: &[call(&now)], programs: &[&now] },
            ];
            let turns = turns::play(database, arguments, callers, ways).await;
            let ([before, now], ratio) = (turns.figures, turns.ratio);
            builds.push(Builds { path, callers, before, now, ratio });
        }
    }
    before.stop().await;
    now.stop().await;
    builds
}
