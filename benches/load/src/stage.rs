//! The programs on the measured paths.

use std::{iter, time::Duration};

use crate::{
    callers::{self, Call},
    database::Database,
    engine::Engine,
    limit,
    measured::{Case, Measured, Run},
    path::Path,
    profile,
    program::Program,
};

/// A service on a database, and an optional standalone gateway.
pub(crate) struct Stage {
    /// The database.
    pub(crate) database: Database,
    /// The service.
    pub(crate) service: Program,
    /// The standalone gateway.
    pub(crate) door: Option<Program>,
}

impl Stage {
    /// Starts the service on a database.
    pub(crate) async fn start(database: Database) -> Self {
        let service = Program::service(&database.url).await;
        Self { database, service, door: None }
    }

    /// Runs a path for a time and adds the result. Skips a path that this stage does not have.
    pub(crate) async fn run(
        &mut self,
        path: Path,
        callers: usize,
        time: Duration,
        measured: &mut Measured,
    ) {
        self.service.forget_peak();
        if path == Path::LimitOf32 && self.database.engine != Engine::Sqlite
            || path == Path::StandaloneGateway && self.door.is_none()
        {
            return;
        }
        let programs: Vec<&Program> = iter::once(&self.service).chain(&self.door).collect();
        let run = self.measure(path, callers, time);
        let run = profile::of(&self.database, &programs, run).await;
        let database = &mut self.database;
        if matches!(path, Path::Rpc | Path::RpcApart | Path::Gateway | Path::StandaloneGateway) {
            database.acknowledge(run.times.len());
        }
        let (name, users) = (database.engine.name(), database.users);
        println!("{name}, {users} users, {callers} callers, {path:?}: {:.0} a second", run.rate);
        let log_rows = database.log_rows;
        let peak = path.is_served().then(|| self.service.memory().peak);
        measured.add(Case { engine: name, users, log_rows, callers }, path, run, peak);
    }

    async fn measure(&self, path: Path, callers: usize, time: Duration) -> Run {
        let Database { engine, url, users, .. } = &self.database;
        let call = match path {
            Path::Limit => {
                return match engine {
                    Engine::Sqlite => limit::sqlite(&self.database.file(), 1, *users, time),
                    Engine::Postgres(_) => limit::pgbench(url, callers, *users, time).await,
                    Engine::MariaDb(_) => limit::mariadb(url, callers, *users, time).await,
                };
            }
            Path::LimitOf32 => return limit::sqlite(&self.database.file(), 32, *users, time),
            Path::Ping => Call::Ping(self.service.grpc()),
            Path::Rpc => Call::Update(self.service.grpc()),
            Path::RpcApart => Call::UpdateApart(self.service.grpc()),
            Path::Gateway => Call::Legacy(self.service.http),
            Path::StandaloneGateway => {
                Call::Legacy(self.door.as_ref().expect("there is a door").http)
            }
            Path::Get => Call::Get(self.service.grpc()),
        };
        callers::run(&[call], callers, *users, time).await
    }

    /// Checks the database and stops the programs.
    pub(crate) async fn end(self) -> Database {
        self.database.check().await;
        if let Some(door) = self.door {
            door.stop().await;
        }
        self.service.stop().await;
        self.database
    }
}
