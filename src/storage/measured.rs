//! What is measured of the database now and then: its pools of connections, and how long the change log is.

use std::{sync::atomic::Ordering, time::Duration};

use sea_orm::{DatabaseConnection, sqlx};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    SqlStore,
    connect::{Engine, Pools},
    gate::Queue,
};
use crate::{
    domain::{error::Error, update::Door},
    fields::FIELDS,
    telemetry::instruments::{Pool, instruments},
};

/// How often the length of the change log is looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same where the database did not answer.
const REST: Duration = Duration::from_secs(1);

/// Has pools looked at whenever metrics are read, where there are metrics.
pub(super) fn observe(pools: &Pools) {
    let Some(instruments) = instruments() else { return };
    // What has not happened yet is told, too: of what is there from its first time on, that one is no increase.
    for door in [Door::Grpc, Door::Legacy] {
        for field in FIELDS {
            instruments.updates(0, door.as_str(), field.group());
        }
    }
    instruments.hashes_failed(0);
    instruments.connection_timeouts(0, pools.queue.pool);
    let pools = pools.clone();
    instruments.observe_pools(move || {
        let Queue { pool: name, waiting } = &pools.queue;
        let mut states = match pools.engine {
            Engine::Sqlite => {
                let pool = DatabaseConnection::get_sqlite_connection_pool;
                vec![state(name, pool(&pools.read)), state("write", pool(&pools.write))]
            }
            Engine::Postgres => vec![state(name, pools.write.get_postgres_connection_pool())],
            Engine::MySql => vec![state(name, pools.write.get_mysql_connection_pool())],
        };
        states[0].pending = waiting.load(Ordering::Relaxed);
        states
    });
}

fn state<D: sqlx::Database>(name: &'static str, pool: &sqlx::Pool<D>) -> Pool {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let idle = number(pool.num_idle());
    // The two are not read at one moment.
    let used = (i64::from(pool.size()) - idle).max(0);
    let (most, least) =
        (pool.options().get_max_connections(), pool.options().get_min_connections());
    Pool { name, idle, used, most: most.into(), least: least.into(), pending: 0 }
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
