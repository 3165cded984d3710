//! A database, its connection pools and its transactions.

pub(super) mod administration;
mod change_log_reads;
mod own_rows;
mod read_session;

use std::{sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, sqlx::postgres::PgConnectOptions};
use tokio::time::timeout;

pub(super) use self::administration::Administration;
use super::{
    connect::{self, Engine, Lease, Options, Pools},
    connection_limiter::{ConnectionLimiter, ConnectionPermit},
    failure::{Failure, breakage, unanswered},
    feed::Wake,
    not_ready::fault_of,
    place::Place,
    probe::Probe,
    query_telemetry::own_statement,
    settings,
    sql::{
        statements::RowLock,
        transaction::{self, Atomicity, Pending},
    },
};
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        readiness::Fault,
        rules::Visibility,
        settings::Settings,
        snapshot::{LoadPlan, Snapshot},
        update::{Actor, Updated},
    },
    trace::Span,
};

/// Timeout for `BEGIN` on a server: `BEGIN` waits for no lock there.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A database, its connection pools and its transactions.
#[derive(Debug)]
pub(super) struct Database {
    options: Options,
    pools: Pools,
    /// Detects deleted or replaced database files. `None` on servers.
    place: Option<Arc<Place>>,
    /// Used only on servers.
    probe: Probe,
    /// Limits reads, to leave connections to writes.
    reading: ConnectionLimiter,
    /// Limits the service's internal work.
    own_work: ConnectionLimiter,
    wake: Wake,
}

impl Database {
    pub(super) fn new(options: &Options, pools: Pools, place: Option<Arc<Place>>) -> Self {
        let limiter = |connections| ConnectionLimiter::new(connections, pools.queue.clone());
        let reading = limiter(connect::readers(pools.engine, options.max_connections));
        let own_work = limiter(connect::own_work(options.max_connections));
        let probe = Probe::new(options.clone());
        let (options, wake) = (options.clone(), Wake::default());
        Self { options, pools, place, probe, reading, own_work, wake }
    }

    /// Closes every connection once its current work is done.
    pub(super) async fn close(&self) {
        self.pools.close().await;
        self.probe.close().await;
    }

    pub(super) fn engine(&self) -> Engine {
        self.pools.engine
    }

    /// The interval between PostgreSQL snapshots while ids of the change log are missing.
    pub(super) fn snapshot_interval(&self) -> Duration {
        self.options.snapshot_interval
    }

    pub(super) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// `None` on servers.
    pub(super) fn place(&self) -> Option<&Arc<Place>> {
        self.place.as_ref()
    }

    /// Proves that a server can store an update.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        self.probe.prove(self.engine(), self.settings(&Span::default())).await
    }

    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// The connect options of each PostgreSQL host. Empty on other engines.
    pub(super) fn postgres_hosts(&self) -> Vec<PgConnectOptions> {
        connect::postgres_hosts(&self.options)
    }

    /// Acquires a connection for internal work: settings, tokens, subscriptions, sweeps. Internal
    /// work has its own share of the connections.
    pub(super) async fn own_work(&self) -> Result<(ConnectionPermit<'_>, Lease), Error> {
        let room = self.own_work.acquire().await;
        Ok((room, self.pools.read().await?))
    }

    /// Acquires a write connection for internal work.
    pub(super) async fn own_writing(&self) -> Result<(ConnectionPermit<'_>, Lease), Error> {
        let room = self.own_work.acquire().await;
        Ok((room, self.pools.write().await?))
    }

    /// Begins a write transaction. After a timeout, the writer retries on another connection.
    pub(super) async fn begin(&self, span: &Span) -> Result<Begun, Error> {
        let lease = self.pools.write().await?;
        let begin = transaction::begin(&lease, self.engine(), span);
        // On SQLite, `BEGIN` waits for other writers.
        let begun = if self.engine() == Engine::Sqlite {
            begin.await
        } else {
            timeout(BEGIN_TIMEOUT, begin).await.unwrap_or_else(|_| Err(unanswered()))
        };
        Ok(Begun { transaction: lease.note(begun)?, lease })
    }

    /// Has every server connection checked before its next use. Called after a timeout.
    pub(super) fn suspect_connections(&self) {
        self.pools.suspect();
    }

    /// Applies updates in order in a begun transaction, and ends the transaction.
    pub(super) async fn apply(
        &self,
        begun: Begun,
        span: &Span,
        updates: &[Pending<'_>],
        lock: RowLock,
        atomicity: Atomicity,
    ) -> Result<Vec<Result<Updated, Error>>, Failure> {
        let Begun { transaction, lease } = begun;
        let engine = (self.engine(), span);
        let applied = transaction::apply(transaction, engine, updates, lock, atomicity).await;
        match &applied {
            Ok(applied) => {
                self.stored(applied);
                self.probe.found_room(self.engine());
                lease.done();
            }
            Err(failure) => {
                if fault_of(&failure.error) == Some(Fault::DiskFull) {
                    self.probe.doubt_room();
                }
                failure.breakage().into_iter().for_each(|breakage| lease.fails(breakage));
            }
        }
        applied
    }

    /// Wakes the readers of the change log if a change was stored.
    pub(super) fn stored(&self, outcomes: &[Result<Updated, Error>]) {
        if outcomes.iter().flatten().any(|updated| !updated.changes.is_empty()) {
            self.wake.stored();
        }
    }

    /// Loads the snapshot of a plan.
    pub(super) async fn load(
        &self,
        call: &CallContext,
        plan: &LoadPlan,
    ) -> Result<Snapshot, Error> {
        let load = || async {
            let reading = self.reading(call).await?;
            let snapshot = reading.load(plan).await?;
            reading.end().await;
            Ok(snapshot)
        };
        again(load).await
    }

    /// Which users an actor may list.
    pub(super) async fn visibility(
        &self,
        call: &CallContext,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<Visibility, Error> {
        let find = || async {
            let reading = self.reading(call).await?;
            let visibility = reading.visibility(actor, user_id).await?;
            reading.end().await;
            Ok(visibility)
        };
        again(find).await
    }

    pub(super) async fn settings(&self, span: &Span) -> Result<Settings, Error> {
        let load = || async {
            let (_room, lease) = self.own_work().await?;
            let load = settings::load(&*lease);
            let settings = own_statement(self.engine(), span, "SELECT", "settings", load).await;
            let settings = lease.note(settings)?;
            lease.done();
            Ok(settings)
        };
        again(load).await
    }

    pub(super) async fn durability(&self) -> Result<Vec<(String, String)>, Error> {
        let queries: &[(&str, &str)] = match self.engine() {
            Engine::Sqlite => &[
                ("journal_mode", "SELECT journal_mode FROM pragma_journal_mode"),
                // 2 is FULL.
                ("synchronous", "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous"),
                ("foreign_keys", "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys"),
            ],
            Engine::Postgres => &[
                ("fsync", "SELECT current_setting('fsync')"),
                ("synchronous_commit", "SELECT current_setting('synchronous_commit')"),
                ("full_page_writes", "SELECT current_setting('full_page_writes')"),
            ],
            Engine::MySql => &[
                (
                    "innodb_flush_log_at_trx_commit",
                    "SELECT CAST(@@innodb_flush_log_at_trx_commit AS CHAR)",
                ),
                ("innodb_doublewrite", "SELECT CAST(@@innodb_doublewrite AS CHAR)"),
            ],
        };
        let (_room, write) = self.own_writing().await?;
        let mut settings = Vec::new();
        for (name, query) in queries {
            let query = Statement::from_string(write.get_database_backend(), *query);
            let row = write.query_one_raw(query);
            let row = own_statement(self.engine(), &Span::default(), "SELECT", "", row).await;
            if let Some(row) = write.note(row)? {
                settings.push(((*name).to_owned(), row.try_get_by_index(0)?));
            }
        }
        write.done();
        Ok(settings)
    }
}

/// A write transaction and its connection.
pub(super) struct Begun {
    transaction: DatabaseTransaction,
    lease: Lease,
}

/// Retries a read once if its connection was unusable.
pub(super) async fn again<T, F>(read: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    match read().await {
        Err(error) if breakage(&error).is_some() => read().await,
        outcome => outcome,
    }
}
