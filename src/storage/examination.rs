//! Examines a database for `doctor`. Changes nothing.

mod answer;
mod content;
mod file;
mod privileges;
mod server;
mod triggers;

use sea_orm::DatabaseConnection;
use tokio::time::timeout;

use self::answer::not_open;
use super::{
    connect::{ACQUIRE_TIMEOUT, Engine, OpenError, Options, read_only},
    migrate::{StepState, plan},
};
use crate::{domain::error::chain, finding::Finding};

const SCHEMA: &str = "schema";

/// The result of an examination.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// The findings, in the order of the checks.
    pub findings: Vec<Finding>,
    /// The number of client keys that are not revoked; 0 if unknown.
    pub client_keys: i64,
}

/// Examines the database: reachable, durable, privileges, clock, schema, reference data.
pub async fn examine(options: &Options) -> Examination {
    let mut findings = Vec::new();
    let mut client_keys = 0;
    let is_there = match Engine::from_url(&options.url) {
        Some(Engine::Sqlite) => file::examine(options, &mut findings),
        _ => server::examine(options, &mut findings).await,
    };
    if is_there {
        match read_only(options).await {
            Ok(connection) => {
                client_keys = contents(options, &connection, &mut findings).await;
                // A failed close does not change the findings.
                let _ = timeout(ACQUIRE_TIMEOUT, connection.close()).await;
            }
            Err(error) => findings.push(not_open(&error)),
        }
    }
    Examination { findings, client_keys }
}

/// Examines a database that answers. Returns the number of client keys.
async fn contents(
    options: &Options,
    connection: &DatabaseConnection,
    findings: &mut Vec<Finding>,
) -> i64 {
    let engine = Engine::from_url(&options.url).unwrap_or(Engine::Sqlite);
    if engine == Engine::Sqlite {
        match file::settings(connection).await {
            Ok(settings) => findings.extend(settings),
            Err(error) => {
                findings.push(not_open(&error.into()));
                return 0;
            }
        }
    } else {
        findings.extend(server::encoding(engine, connection).await);
        findings.push(server::clock(engine, connection).await);
    }
    let steps = match plan(options).await {
        Ok(steps) => steps,
        Err(error @ OpenError::Newer { .. }) => {
            findings.push(Finding::error(SCHEMA, error.to_string(), ""));
            return 0;
        }
        Err(error) => {
            findings.push(Finding::error(SCHEMA, chain(&error), "see the check `database`"));
            return 0;
        }
    };
    let count = |state| steps.iter().filter(|step| step.state == state).count();
    let (applied, pending) = (count(StepState::Applied), count(StepState::Pending));
    let newer = count(StepState::Newer);
    let found = format!("{applied} steps applied, {pending} pending, {newer} of a newer version");
    findings.push(if pending > 0 {
        Finding::warning(SCHEMA, found, "run `migrate`; `serve` migrates when it starts")
    } else {
        Finding::ok(SCHEMA, found)
    });
    match (engine, pending) {
        (Engine::Sqlite, _) => {}
        (Engine::Postgres, 1..) => findings.push(privileges::examine_migration(connection).await),
        (Engine::MySql, 1..) => findings.extend(triggers::examine_migration(connection).await),
        (Engine::Postgres, 0) => findings.push(privileges::examine(connection).await),
        (Engine::MySql, 0) => {
            findings.push(privileges::examine(connection).await);
            findings.extend(triggers::examine(connection).await);
        }
    }
    if applied == 0 { 0 } else { content::examine(connection, findings).await }
}
