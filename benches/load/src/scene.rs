//! One engine: its database, the rounds, and the check at the end.

use std::{env, time::Duration};

use m4_user_details::storage::{Options, migrate};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};

use crate::{
    Arguments,
    callers::{self, Call, FIRST_ID, Run},
    limit,
    program::Program,
    report::{Measured, Path},
};

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    /// With the URL of a server.
    Postgres(String),
    /// With the URL of a server.
    MariaDb(String),
}

impl Engine {
    /// The engines that are wanted and available.
    pub(crate) fn available(wanted: &[String]) -> Vec<Self> {
        let server = |variable: &str| {
            env::var(variable).map_err(|_| eprintln!("{variable} is not set: left out")).ok()
        };
        let mut engines = Vec::new();
        for name in ["sqlite", "postgres", "mariadb"] {
            if !wanted.is_empty() && !wanted.iter().any(|own| own == name) {
                continue;
            }
            engines.extend(match name {
                "postgres" => server("TEST_POSTGRES_URL").map(Self::Postgres),
                "mariadb" => server("TEST_MYSQL_URL").map(Self::MariaDb),
                _ => Some(Self::Sqlite),
            });
        }
        engines
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
            Self::MariaDb(_) => "MariaDB",
        }
    }
}

/// Measures every path on an engine.
pub(crate) async fn measure(engine: Engine, arguments: &Arguments) -> Vec<Measured> {
    let folder = tempfile::tempdir_in("target").unwrap();
    let file = folder.path().join("load.db");
    let name = format!("m4_load_{}", std::process::id());
    let url = match &engine {
        Engine::Sqlite => format!("sqlite://{}", file.display()),
        Engine::Postgres(server) | Engine::MariaDb(server) => {
            execute(&connect(server).await, &format!("CREATE DATABASE {name}")).await;
            let (server, _) = server.rsplit_once('/').unwrap();
            format!("{server}/{name}")
        }
    };
    let options = Options { url: url.clone(), max_connections: 1, max_in_flight: 1 };
    migrate(&options, true).await.unwrap();
    let database = connect(&url).await;
    fill(&database, arguments.users).await;

    let time = Duration::from_secs(arguments.seconds);
    let service = Program::start(&["serve", "--demo"], &[("M4_DATABASE_URL", &url)]).await;
    let grpc = service.grpc.unwrap();
    let upstream = format!("http://{grpc}");
    let door = Program::start(&["serve", "--door-only", "--upstream", &upstream], &[]).await;
    println!("{}: {:.0} MiB of memory when idle", engine.name(), service.memory());

    let mut measured: Vec<Measured> = Vec::new();
    let mut acknowledged = 0;
    for round in 1..=arguments.rounds {
        for &callers in &arguments.callers {
            for path in Path::ALL {
                let users = arguments.users;
                let run = match path {
                    Path::Limit => match &engine {
                        Engine::Sqlite => limit::sqlite(&file, 1, users, time),
                        Engine::Postgres(_) => limit::pgbench(&url, callers, users, time),
                        Engine::MariaDb(_) => limit::mariadb(&url, callers, users, time).await,
                    },
                    Path::LimitOf32 if engine == Engine::Sqlite => {
                        limit::sqlite(&file, 32, users, time)
                    }
                    Path::LimitOf32 => continue,
                    Path::Rpc => callers::run(Call::Update(grpc), callers, users, time).await,
                    Path::Door => {
                        callers::run(Call::Legacy(service.http), callers, users, time).await
                    }
                    Path::FarDoor => {
                        callers::run(Call::Legacy(door.http), callers, users, time).await
                    }
                    Path::Get => callers::run(Call::Get(grpc), callers, users, time).await,
                };
                if matches!(path, Path::Rpc | Path::Door | Path::FarDoor) {
                    acknowledged += run.times.len();
                }
                println!(
                    "{} round {round}, {callers} callers, {path:?}: {:.0} a second",
                    engine.name(),
                    run.rate
                );
                add(&mut measured, &engine, path, callers, run);
            }
        }
        println!("{}: {:.0} MiB of memory", engine.name(), service.memory());
    }
    // The limit calls its door by its own name.
    let stored = number(&database, "SELECT count(*) FROM change_log WHERE door <> 'limit'").await;
    let logged = number(&database, "SELECT count(*) FROM change_log").await;
    let versions = number(&database, "SELECT sum(version - 1) FROM accounts").await;
    println!("{}: {acknowledged} updates acknowledged, {stored} stored", engine.name());
    assert_eq!(stored, i64::try_from(acknowledged).unwrap(), "every acknowledged update is there");
    assert_eq!(logged, versions, "every change has its entry");
    drop((service, door));
    database.close().await.unwrap();
    if let Engine::Postgres(server) | Engine::MariaDb(server) = &engine {
        execute(&connect(server).await, &format!("DROP DATABASE {name}")).await;
    }
    measured
}

fn add(measured: &mut Vec<Measured>, engine: &Engine, path: Path, callers: usize, run: Run) {
    let found = measured.iter_mut().find(|own| own.path == path && own.callers == callers);
    match found {
        Some(own) => own.runs.push(run),
        None => measured.push(Measured { engine: engine.name(), path, callers, runs: vec![run] }),
    }
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).max_connections(1);
    Database::connect(options).await.unwrap()
}

async fn execute(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap();
}

async fn number(database: &DatabaseConnection, sql: &str) -> i64 {
    let cast = format!(
        "SELECT CAST(({sql}) AS {})",
        match database.get_database_backend() {
            sea_orm::DbBackend::MySql => "SIGNED",
            _ => "BIGINT",
        }
    );
    let statement = Statement::from_string(database.get_database_backend(), cast);
    database.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// Fills the table of accounts with users.
async fn fill(database: &DatabaseConnection, users: i64) {
    const AT_ONCE: i64 = 1000;
    println!("filling {users} users");
    for first in (0..users).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let rows: Vec<_> = (first..users.min(first + AT_ONCE))
            .map(|number| {
                let id = FIRST_ID + number;
                format!(
                    "({id}, 'user {id}', 'user', 1, 1, 1, 2, 'First {id}', 'Last {id}', 'Street {id}', 'City {id}', \
                     'user{id}@example.com', 'A comment of user {id}.')"
                )
            })
            .collect();
        let sql = format!(
            "INSERT INTO accounts (id, username, account_type, create_time, update_time, currency_id, \
             responsible_manager_id, first_name, last_name, address, city, email, comment) VALUES {}",
            rows.join(",")
        );
        execute(database, &sql).await;
        if first % 1_000_000 == 0 && first > 0 {
            println!("  {first}");
        }
    }
    if database.get_database_backend() == sea_orm::DbBackend::Postgres {
        execute(database, "VACUUM ANALYZE accounts").await;
    }
}
