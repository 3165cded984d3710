//! What is measured of the database now and then: its pools of connections, and how long the change log is.

use std::time::Duration;

use sea_orm::{DatabaseConnection, sqlx};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    SqlStore,
    connect::{Engine, Pools},
};
use crate::{
    domain::error::Error,
    telemetry::instruments::{Pool, instruments},
};

/// How often the length of the change log is looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same where the database did not answer.
const REST: Duration = Duration::from_secs(1);

/// Has pools looked at whenever metrics are read, where there are metrics.
pub(super) fn observe(pools: &Pools) {
    let Some(instruments) = instruments() else { return };
    let pools = pools.clone();
    instruments.observe_pools(move || match pools.engine {
        Engine::Sqlite => {
            let pool = DatabaseConnection::get_sqlite_connection_pool;
            vec![state("read", pool(&pools.read)), state("write", pool(&pools.write))]
        }
        Engine::Postgres => vec![state("all", pools.write.get_postgres_connection_pool())],
        Engine::MySql => vec![state("all", pools.write.get_mysql_connection_pool())],
    });
}

fn state<D: sqlx::Database>(name: &'static str, pool: &sqlx::Pool<D>) -> Pool {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let idle = number(pool.num_idle());
    // The two are not read at one moment.
    let used = (i64::from(pool.size()) - idle).max(0);
    let (most, least) =
        (pool.options().get_max_connections(), pool.options().get_min_connections());
    Pool { name, idle, used, most: most.into(), least: least.into() }
}

impl SqlStore {
    /// Measures the change log every minute until `stop`, where there are metrics.
    pub async fn measure(self, stop: CancellationToken) {
        let Some(instruments) = instruments() else { return };
        let measure = async {
            loop {
                match self.change_log_length().await {
                    Ok(entries) => {
                        instruments.change_log(entries);
                        sleep(INTERVAL).await;
                    }
                    // It is looked for by others, who tell the log.
                    Err(_) => sleep(REST).await,
                }
            }
        };
        stop.run_until_cancelled(measure).await;
    }

    /// About how many entries the change log has: from the oldest one's id to the newest one's.
    async fn change_log_length(&self) -> Result<u64, Error> {
        let database = self.prepared()?;
        let newest = database.newest_changes(1).await?.pop();
        let oldest = database.oldest_change().await?;
        let entries = oldest.zip(newest).map_or(0, |(oldest, newest)| newest - oldest + 1);
        Ok(u64::try_from(entries).unwrap_or_default())
    }
}
