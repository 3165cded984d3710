//! Wake-up calls of other replicas, by `NOTIFY` on PostgreSQL.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    ConnectionTrait, DbErr, RuntimeErr,
    sqlx::{
        self,
        postgres::{PgListener, PgPoolOptions},
    },
};
use tokio::time::{sleep, timeout};

use crate::{
    domain::error::{Error, chain},
    storage::{connect::Engine, database::Database, failure::cause},
};

/// Wakes other replicas. The commit need not be durable.
const NOTIFY: &str = "BEGIN; SET LOCAL synchronous_commit = off; NOTIFY m4_change_log; COMMIT";
/// The channel of `NOTIFY` and `LISTEN`.
const CHANNEL: &str = "m4_change_log";
/// Minimum time between two wake-up calls to other replicas.
const WAKE_BACKOFF: Duration = Duration::from_millis(10);
/// Backoff after a failure.
const LISTEN_BACKOFF: Duration = Duration::from_secs(1);
/// Time without calls after which the listener reconnects.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Timeout for one wake-up call, and for connecting.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Forwards wake-up calls to other replicas until the database is dropped.
pub(in crate::storage) fn start(database: &Arc<Database>) {
    if database.engine() != Engine::Postgres {
        return;
    }
    let database = Arc::downgrade(database);
    tokio::spawn(async move {
        while let Some(database) = database.upgrade() {
            // The timeout releases the reference, so that the database can be dropped.
            if timeout(LISTEN_BACKOFF, database.wake().others.notified()).await.is_err() {
                continue;
            }
            let told = async {
                let (_room, lease) = database.own_writing().await?;
                lease.note(lease.execute_unprepared(NOTIFY).await.map_err(Error::from))?;
                lease.done();
                Ok::<_, Error>(())
            };
            match timeout(LISTEN_TIMEOUT, told).await {
                Ok(Ok(_)) => sleep(WAKE_BACKOFF).await,
                Ok(Err(_)) | Err(_) => sleep(LISTEN_BACKOFF).await,
            }
        }
    });
}

/// Receives the wake-up calls of other replicas while polled.
pub(super) async fn listen(database: &Database) {
    let hosts = database.postgres_hosts();
    if hosts.is_empty() {
        return std::future::pending().await;
    }
    for host in hosts.iter().cycle() {
        let heard = async {
            let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(LISTEN_TIMEOUT);
            let pool = pool.max_lifetime(None).idle_timeout(None).connect_lazy_with(host.clone());
            let listen = async {
                let mut listener = PgListener::connect_with(&pool).await?;
                listener.listen(CHANNEL).await?;
                Ok::<_, sqlx::Error>(listener)
            };
            let listener = timeout(LISTEN_TIMEOUT * 2, listen).await;
            let mut listener = listener.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
            // A vanished peer is silent too: reconnect after a while.
            while let Ok(called) = timeout(LONGEST_SILENCE, listener.recv()).await {
                called?;
                database.wake().reader.notify_one();
            }
            Ok(())
        };
        let heard: Result<(), sqlx::Error> = heard.await;
        if let Err(error) = heard {
            let error = cause(DbErr::Conn(RuntimeErr::SqlxError(error.into())));
            tracing::warn!(
                error = chain(&*error),
                "cannot listen for notifications from other replicas"
            );
            sleep(LISTEN_BACKOFF).await;
        }
    }
}
