//! The difference between the clocks of the machine and the database server.

use chrono::{DateTime, TimeDelta};
use sea_orm::{ConnectionTrait, DbErr, Statement};

use super::connect::Engine;
use crate::domain::clock::{Clock, SystemClock};

/// Maximum difference. Beyond it, nothing is deleted: rows would look older than they are.
pub(super) const MAX_CLOCK_DIFFERENCE: TimeDelta = TimeDelta::minutes(1);

/// The time of this machine minus the time of the database server. A SQLite database has no other
/// clock.
pub(super) async fn clock_difference<C: ConnectionTrait>(
    engine: Engine,
    connection: &C,
) -> Result<TimeDelta, DbErr> {
    let microseconds = match engine {
        Engine::Sqlite => return Ok(TimeDelta::zero()),
        Engine::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
        Engine::MySql => "CAST(unix_timestamp(now(6)) * 1000000 AS signed)",
    };
    let select = format!("SELECT {microseconds}");
    let select = Statement::from_string(connection.get_database_backend(), select);
    let row = connection.query_one_raw(select).await?;
    let microseconds = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    let server = DateTime::from_timestamp_micros(microseconds).unwrap_or_default();
    Ok(SystemClock.now() - server)
}
