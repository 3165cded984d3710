//! The gain from a setting: the service without it compared with the default.

use serde::Serialize;

use super::turns::{self, Way};
use crate::{
    arguments::Arguments, callers::Call, database::Database, measured::Figures, program::Program,
};

/// Numbers of callers.
const CALLERS: [usize; 2] = [16, 64];

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Choice {
    /// Number of callers.
    pub(crate) callers: usize,
    /// The service without the setting.
    pub(crate) without: Figures,
    /// The service with the default.
    pub(crate) with: Figures,
    /// Rate with ÷ rate without the setting.
    pub(crate) ratio: f64,
}

/// Plays the scene. `variable` is 0 in the service without the setting; `call` is measured.
pub(crate) async fn play(
    database: &mut Database,
    arguments: &Arguments,
    variable: &str,
    call: fn(&Program) -> Call,
) -> Vec<Choice> {
    let other = Program::service_with(&database.url, &[(variable, "0")]).await;
    let usual = Program::service(&database.url).await;
    let mut choices = Vec::new();
    for callers in CALLERS {
        let ways = [
            Way { name: &format!("{variable}=0"), calls: &[call(&other)], programs: &[&other] },
            Way { name: "as it is", calls: &[call(&usual)], programs: &[&usual] },
        ];
        let turns = turns::play(database, arguments, callers, ways).await;
        let ([without, with], ratio) = (turns.figures, turns.ratio);
        choices.push(Choice { callers, without, with, ratio });
    }
    other.stop().await;
    usual.stop().await;
    choices
}
