//! Pages of the list of users, on tables of two sizes: from the first page on, one after the other.

use serde::Serialize;

use crate::{
    Arguments,
    callers::{self, Call},
    database::Database,
    engine::Engine,
    measured::{Figures, Run},
    program::Program,
};

/// How many callers there are.
const CALLERS: usize = 16;
/// How many users the larger table has.
const LARGE: i64 = 1_000_000;

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct List {
    /// Pages of the table of `--users`.
    pub(crate) small: Figures,
    /// Pages of the larger one.
    pub(crate) large: Figures,
}

/// Plays the scene.
pub(crate) async fn play(engine: &Engine, arguments: &Arguments) -> List {
    let mut databases = Vec::new();
    for users in [arguments.users, LARGE] {
        let database = Database::filled(engine, users, 0).await;
        let service = Program::service(&database.url).await;
        databases.push((database, service, Vec::<Run>::new()));
    }
    for round in 0..=arguments.rounds {
        for (database, service, runs) in &mut databases {
            let call = Call::Page(service.grpc());
            let run = callers::run(&[call], CALLERS, database.users, arguments.time()).await;
            println!("{}, {} users: {:.0} pages a second", engine.name(), database.users, run.rate);
            // The first round fills the caches.
            if round > 0 {
                runs.push(run);
            }
        }
    }
    let mut figures = Vec::new();
    for (database, service, runs) in databases {
        figures.push(Figures::of(&runs));
        service.stop().await;
        database.close().await;
    }
    List { small: figures[0], large: figures[1] }
}
