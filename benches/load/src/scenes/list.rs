//! Pages of the user list on tables of two sizes, read in order from the first page.

use serde::Serialize;

use crate::{
    arguments::Arguments,
    callers::{self, Call, Listed},
    database::Database,
    engine::Engine,
    measured::{Figures, Run},
    program::Program,
};

/// Number of callers.
const CALLERS: usize = 16;
/// Number of users in the larger table.
const LARGE: i64 = 1_000_000;

/// The results.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct List {
    /// The list.
    pub(crate) listed: Listed,
    /// Pages of the table with `--users` users.
    pub(crate) small: Figures,
    /// Pages of the larger table.
    pub(crate) large: Figures,
}

/// Plays the scene.
pub(crate) async fn play(engine: &Engine, arguments: &Arguments) -> Vec<List> {
    let mut databases = Vec::new();
    for users in [arguments.users, LARGE] {
        let database = Database::filled(engine, users, 0).await;
        let service = Program::service(&database.url).await;
        databases.push((database, service));
    }
    let mut lists = Vec::new();
    for listed in Listed::ALL {
        let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
        for round in 0..=arguments.rounds {
            for ((database, service), runs) in databases.iter().zip(&mut runs) {
                let call = Call::Page(service.grpc(), listed);
                let run = callers::run(&[call], CALLERS, database.users, arguments.time()).await;
                let (name, users, rate) = (engine.name(), database.users, run.rate);
                println!("{name}, {users} users: {rate:.0} pages of {listed:?} a second");
                // The first round fills the caches.
                if round > 0 {
                    runs.push(run);
                }
            }
        }
        let [small, large] = runs.map(|runs| Figures::of(&runs));
        lists.push(List { listed, small, large });
    }
    for (database, service) in databases {
        service.stop().await;
        database.close().await;
    }
    lists
}
