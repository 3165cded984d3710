//! A database server: fit, durable, and with the right clock.

use chrono::TimeDelta;
use sea_orm::DatabaseConnection;

use super::answer::{DATABASE, first, not_open};
use crate::{
    domain::error::{Error, chain},
    finding::Finding,
    storage::{
        clock_difference::{MAX_CLOCK_DIFFERENCE, clock_difference},
        connect::{Engine, OpenError, Options, Unfit, fitness},
    },
};

const DURABILITY: &str = "durability";
const POOLER: &str = "pooler";
const CLOCK: &str = "clock";

/// Clock difference from which an operator should act.
const NOTICEABLE_DIFFERENCE: TimeDelta = TimeDelta::seconds(1);

/// Examines the server. Returns whether the server answers and is fit.
pub(super) async fn examine(options: &Options, findings: &mut Vec<Finding>) -> bool {
    let fitness = match fitness(options).await {
        Ok(fitness) => fitness,
        Err(OpenError::Unfit(unfit)) => {
            let check = match unfit {
                Unfit::Durability { .. } | Unfit::StorageEngine { .. } => DURABILITY,
                Unfit::Pooler => POOLER,
                Unfit::Product(_) | Unfit::Version { .. } | Unfit::Encoding(_) => DATABASE,
            };
            findings.push(Finding::error(check, unfit.to_string(), ""));
            return false;
        }
        Err(error) => {
            findings.push(not_open(&error));
            return false;
        }
    };
    let is_postgres = Engine::from_url(&options.url) == Some(Engine::Postgres);
    let encoding = if is_postgres { ", encoding UTF8" } else { "" };
    findings.push(Finding::ok(DATABASE, format!("{}{encoding}", fitness.server)));
    if fitness.weaknesses.is_empty() {
        findings.push(Finding::ok(DURABILITY, "every acknowledged update is on disk"));
    }
    findings.extend(fitness.weaknesses.into_iter().map(|weakness| {
        Finding::warning(DURABILITY, weakness, "see docs/operations/databases.md#durability")
    }));
    if is_postgres {
        findings.push(Finding::ok(POOLER, "none that changes sessions between transactions"));
    }
    true
}

/// The tables of MariaDB and MySQL whose texts are not compared byte by byte.
const OTHER_COLLATIONS: &str = "SELECT count(*) FROM information_schema.tables \
                                WHERE table_schema = DATABASE() \
                                AND table_name IN ('accounts', 'change_log', 'settings') \
                                AND table_collation <> 'utf8mb4_bin'";

/// Examines the encoding of the tables. On PostgreSQL, the database has the encoding.
pub(super) async fn encoding(engine: Engine, connection: &DatabaseConnection) -> Option<Finding> {
    const ENCODING: &str = "encoding";
    if engine != Engine::MySql {
        return None;
    }
    Some(match first::<i64>(connection, OTHER_COLLATIONS).await {
        Ok(0) => Finding::ok(ENCODING, "no table has another collation than utf8mb4_bin"),
        Ok(tables) => {
            let found = format!("{tables} tables have another collation than utf8mb4_bin");
            let remedy = "ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
            Finding::warning(ENCODING, found, remedy)
        }
        Err(error) => Finding::error(ENCODING, chain(&Error::from(error)), ""),
    })
}

/// Compares the clocks.
pub(super) async fn clock(engine: Engine, connection: &DatabaseConnection) -> Finding {
    let difference = match clock_difference(engine, connection).await {
        Ok(difference) => difference,
        Err(error) => return Finding::error(CLOCK, chain(&Error::from(error)), ""),
    };
    let milliseconds = difference.num_milliseconds();
    let found = format!("differs from the database server's by {milliseconds} ms");
    let remedy = "synchronize both clocks, as with NTP";
    match difference.abs() {
        difference if difference > MAX_CLOCK_DIFFERENCE => {
            let found = format!("{found}: expired rows are not deleted");
            Finding::error(CLOCK, found, remedy)
        }
        difference if difference > NOTICEABLE_DIFFERENCE => Finding::warning(CLOCK, found, remedy),
        _ => Finding::ok(CLOCK, found),
    }
}
