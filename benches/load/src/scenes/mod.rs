//! The scenes, one file each.

mod batch;
mod builds;
mod choice;
mod hashes;
mod keys;
mod list;
mod overload;
mod paths;
mod replicas;
mod sizes;
mod start;
mod telemetry;
mod turns;
mod watch;

use serde::Serialize;

pub(crate) use self::{
    batch::Batch, builds::Builds, choice::Choice, hashes::Kind, keys::Keys, list::List,
    overload::Overload, replicas::Replicas, start::Start, telemetry::Telemetry, watch::Watch,
};
use crate::{
    arguments::{Arguments, Scene},
    callers::Call,
    database::Database,
    engine::Engine,
    measured::Row,
    program::Program,
};

/// The results of the scenes on one engine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Played {
    /// The engine's name.
    pub(crate) engine: &'static str,
    /// Every path at every caller count.
    pub(crate) paths: Vec<Row>,
    /// Memory of the idle service, in MB.
    pub(crate) idle: Option<f64>,
    /// Start times.
    pub(crate) start: Option<Start>,
    /// Overload: four times the service's capacity.
    pub(crate) overload: Option<Overload>,
    /// Two replicas compared with one.
    pub(crate) replicas: Option<Replicas>,
    /// Cached settings compared with uncached settings.
    pub(crate) settings: Vec<Choice>,
    /// Updates that wait to share a transaction, compared with updates that do not wait.
    pub(crate) gather: Vec<Choice>,
    /// Batches, and single updates beside batches.
    pub(crate) batch: Option<Batch>,
    /// Telemetry compared with no telemetry.
    pub(crate) telemetry: Option<Telemetry>,
    /// Subscriptions.
    pub(crate) watch: Option<Watch>,
    /// Another build compared with this build.
    pub(crate) builds: Vec<Builds>,
    /// Kinds of wrong hashes.
    pub(crate) hashes: Vec<Kind>,
    /// Calls with one client key and with many.
    pub(crate) keys: Vec<Keys>,
    /// Pages of the list.
    pub(crate) list: Vec<List>,
    /// Some paths on tables of several sizes.
    pub(crate) sizes: Vec<Row>,
}

/// Plays the chosen scenes on an engine.
pub(crate) async fn play(engine: Engine, arguments: Arguments) -> Played {
    let chosen = |scene| arguments.scenes.contains(&scene);
    let mut played = Played {
        engine: engine.name(),
        paths: Vec::new(),
        idle: None,
        start: None,
        overload: None,
        replicas: None,
        settings: Vec::new(),
        gather: Vec::new(),
        batch: None,
        telemetry: None,
        watch: None,
        builds: Vec::new(),
        hashes: Vec::new(),
        keys: Vec::new(),
        list: Vec::new(),
        sizes: Vec::new(),
    };
    let with_server = engine.server().is_some();
    let own = [Scene::Sizes, Scene::List];
    if arguments.scenes.iter().any(|scene| !own.contains(scene)) {
        let mut database = Database::filled(&engine, arguments.users, 0).await;
        if chosen(Scene::Start) {
            played.start = Some(start::play(&database).await);
        }
        if chosen(Scene::Paths) {
            let (idle, rows);
            (database, idle, rows) = paths::play(database, &arguments).await;
            (played.idle, played.paths) = (Some(idle), rows);
        }
        if chosen(Scene::Overload) {
            let overload;
            (database, overload) = overload::play(database, &arguments).await;
            played.overload = Some(overload);
        }
        if chosen(Scene::Replicas) && with_server {
            played.replicas = Some(replicas::play(&mut database, &arguments).await);
        }
        if chosen(Scene::Settings) {
            let variable = "M4_SETTINGS_CACHE_MILLISECONDS";
            let call = |service: &Program| Call::Legacy(service.http);
            played.settings = choice::play(&mut database, &arguments, variable, call).await;
        }
        if chosen(Scene::Gather) && with_server {
            let call = |service: &Program| Call::Update(service.grpc());
            played.gather =
                choice::play(&mut database, &arguments, "M4_GATHER_MILLISECONDS", call).await;
        }
        if chosen(Scene::Batch) {
            played.batch = Some(batch::play(&mut database, &arguments).await);
        }
        if chosen(Scene::Telemetry) {
            played.telemetry = Some(telemetry::play(&mut database, &arguments).await);
        }
        if chosen(Scene::Watch) {
            played.watch = Some(watch::play(&mut database, &arguments).await);
        }
        if chosen(Scene::Hashes) {
            played.hashes = hashes::play(&database).await;
        }
        if chosen(Scene::Keys) {
            played.keys = keys::play(&database).await;
        }
        if let Some(before) = &arguments.before {
            played.builds = builds::play(&mut database, &arguments, before).await;
        }
        database.close().await;
    }
    if chosen(Scene::List) {
        played.list = list::play(&engine, &arguments).await;
    }
    if chosen(Scene::Sizes) {
        played.sizes = sizes::play(&engine, &arguments).await;
    }
    played
}
