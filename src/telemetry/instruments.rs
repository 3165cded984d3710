//! What is measured. The attributes of what is measured often stand on the stack or are made once.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter},
};

use super::names;

/// The boundaries of durations of calls, in seconds, as the conventions advise.
const CALLS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Those of statements.
const STATEMENTS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Those of numbers of updates.
const UPDATES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1000.0];

static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();

/// The instruments; none where nothing is measured.
pub(crate) fn instruments() -> Option<&'static Instruments> {
    INSTRUMENTS.get()
}

/// Has everything measured with a meter from now on.
pub(super) fn install(meter: Meter) {
    // Set before only in a process that started twice, which no command does.
    let _ = INSTRUMENTS.set(Instruments::new(meter));
}

/// The attributes of statements that did not fail, by their database, operation and table.
type Statements = HashMap<(&'static str, &'static str, &'static str), Vec<KeyValue>>;

/// Why a statement failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure<'a> {
    /// The database's code, where there is one: there are not many.
    Coded(Option<&'a str>),
    /// Nobody waited for it any more.
    GivenUp,
}

/// What is measured.
pub(crate) struct Instruments {
    meter: Meter,
    rpc_server: Histogram<f64>,
    rpc_client: Histogram<f64>,
    http_server: Histogram<f64>,
    statement: Histogram<f64>,
    statements: RwLock<Statements>,
    legacy_calls: Counter<u64>,
    failed_hashes: Counter<u64>,
    updates: Counter<u64>,
    batch: Histogram<u64>,
    change_log: Gauge<u64>,
    watch_lag: Histogram<f64>,
    watchers: Level,
    watches_ended: Counter<u64>,
    shed: Counter<u64>,
    in_flight: Level,
}

/// A number that is looked at when metrics are read: to change it costs next to nothing.
type Level = Arc<AtomicI64>;

impl Instruments {
    fn new(meter: Meter) -> Self {
        let seconds = |name, help, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(help);
            histogram.with_boundaries(bounds.to_vec()).build()
        };
        let counter = |name, unit, help| {
            meter.u64_counter(name).with_unit(unit).with_description(help).build()
        };
        let level = |name, unit, help| {
            let level = Level::default();
            let now = Arc::clone(&level);
            let counter = meter.i64_observable_up_down_counter(name);
            counter
                .with_unit(unit)
                .with_description(help)
                .with_callback(move |observer| observer.observe(now.load(Ordering::Relaxed), &[]))
                .build();
            level
        };
        Self {
            rpc_server: seconds(
                names::RPC_SERVER_CALL_DURATION,
                "How long calls took; those that watch, until the stream was open.",
                &CALLS,
            ),
            rpc_client: seconds(
                names::RPC_CLIENT_CALL_DURATION,
                "How long the door's calls to the service took.",
                &CALLS,
            ),
            http_server: seconds(
                names::HTTP_SERVER_REQUEST_DURATION,
                "How long legacy calls took.",
                &CALLS,
            ),
            statement: seconds(
                names::DB_CLIENT_OPERATION_DURATION,
                "How long SQL statements took.",
                &STATEMENTS,
            ),
            statements: RwLock::default(),
            legacy_calls: counter(
                names::LEGACY_CALLS,
                "{call}",
                "Answers to legacy calls, by row of the specification, or by HTTP status of what never reached the call.",
            ),
            failed_hashes: counter(
                names::LEGACY_FAILED_HASHES,
                "{call}",
                "Legacy calls whose hash was missing or wrong.",
            ),
            updates: counter(
                names::UPDATES,
                "{update}",
                "Stored updates that changed a field of the group.",
            ),
            batch: meter
                .u64_histogram(names::WRITER_BATCH)
                .with_unit("{update}")
                .with_description("How many updates were stored in one transaction.")
                .with_boundaries(UPDATES.to_vec())
                .build(),
            change_log: meter
                .u64_gauge(names::CHANGE_LOG_LENGTH)
                .with_unit("{entry}")
                .with_description(
                    "About how many entries the change log has, looked at every minute.",
                )
                .build(),
            watch_lag: seconds(
                names::WATCH_LAG,
                "How old entries of the change log were when those who watch got them.",
                &CALLS,
            ),
            watchers: level(names::WATCHERS, "{stream}", "How many streams watch."),
            watches_ended: counter(
                names::WATCHES_ENDED,
                "{stream}",
                "Streams that have ended, and why.",
            ),
            shed: counter(
                names::CALLS_SHED,
                "{call}",
                "Calls that were refused as there were too many, or given up at their deadline.",
            ),
            in_flight: level(names::CALLS_IN_FLIGHT, "{call}", "Calls under way."),
            meter,
        }
    }

    /// A call begins.
    pub(crate) fn call_begins(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended with a gRPC code, which is a server's error or not.
    pub(crate) fn call_ends(
        &self,
        method: &'static str,
        code: &'static str,
        is_servers: bool,
        took: Duration,
    ) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        rpc(&self.rpc_server, method, code, is_servers, took);
    }

    /// The door's call has ended.
    pub(crate) fn client_call(&self, method: &'static str, code: &'static str, took: Duration) {
        rpc(&self.rpc_client, method, code, code != "OK", took);
    }

    /// A call was refused or given up.
    pub(crate) fn shed(&self, reason: &'static str) {
        self.shed.add(1, &[KeyValue::new(names::REASON, reason)]);
    }

    /// A request was answered, or given up by its client: without a status. `row` is the row of the specification or the HTTP
    /// status; `route` is empty for other paths.
    pub(crate) fn legacy_call(
        &self,
        (method, scheme, route): (&'static str, &'static str, &'static str),
        (status, row): (Option<u16>, &'static str),
        took: Duration,
    ) {
        self.legacy_calls.add(1, &[KeyValue::new(names::ROW, row)]);
        let method = KeyValue::new(names::HTTP_REQUEST_METHOD, method);
        let scheme = KeyValue::new(names::URL_SCHEME, scheme);
        let mut attributes = [method, scheme, none(), none(), none()];
        let mut count = 2;
        if let Some(status) = status {
            attributes[count] = KeyValue::new(names::HTTP_RESPONSE_STATUS_CODE, i64::from(status));
            count += 1;
        }
        if !route.is_empty() {
            attributes[count] = KeyValue::new(names::HTTP_ROUTE, route);
            count += 1;
        }
        if status.is_none_or(|status| status >= 500) {
            // Of such an answer the row is the status.
            attributes[count] = KeyValue::new(names::ERROR_TYPE, row);
            count += 1;
        }
        self.http_server.record(took.as_secs_f64(), &attributes[..count]);
    }

    /// The hash of a legacy call was missing or wrong.
    pub(crate) fn hash_failed(&self) {
        self.failed_hashes.add(1, &[]);
    }

    /// A statement has ended.
    pub(crate) fn statement(
        &self,
        statement: (&'static str, &'static str, &'static str),
        failure: Option<Failure<'_>>,
        took: Duration,
    ) {
        let took = took.as_secs_f64();
        let kept = self.statements.read().ok();
        if failure.is_none()
            && let Some(attributes) = kept.as_ref().and_then(|kept| kept.get(&statement))
        {
            return self.statement.record(took, attributes);
        }
        drop(kept);
        let (system, operation, collection) = statement;
        let mut attributes = vec![
            KeyValue::new(names::DB_SYSTEM_NAME, system),
            KeyValue::new(names::DB_OPERATION_NAME, operation),
        ];
        let mut summary = operation.to_owned();
        if !collection.is_empty() {
            attributes.push(KeyValue::new(names::DB_COLLECTION_NAME, collection));
            summary = format!("{operation} {collection}");
        }
        attributes.push(KeyValue::new(names::DB_QUERY_SUMMARY, Arc::<str>::from(summary)));
        match failure {
            None => {
                self.statement.record(took, &attributes);
                if let Ok(mut kept) = self.statements.write() {
                    kept.insert(statement, attributes);
                }
                return;
            }
            Some(Failure::Coded(Some(code))) => {
                let code = Arc::<str>::from(code);
                attributes.push(KeyValue::new(names::DB_RESPONSE_STATUS_CODE, Arc::clone(&code)));
                attributes.push(KeyValue::new(names::ERROR_TYPE, code));
            }
            Some(Failure::Coded(None)) => {
                attributes.push(KeyValue::new(names::ERROR_TYPE, "_OTHER"));
            }
            Some(Failure::GivenUp) => {
                attributes.push(KeyValue::new(names::ERROR_TYPE, "cancelled"));
            }
        }
        self.statement.record(took, &attributes);
    }

    /// A transaction with so many updates is stored.
    pub(crate) fn transaction(&self, updates: usize) {
        self.batch.record(u64::try_from(updates).unwrap_or(u64::MAX), &[]);
    }

    /// An update that came through a door and changed a group of fields is stored.
    pub(crate) fn update(&self, door: &'static str, group: &'static str) {
        let attributes = [KeyValue::new(names::DOOR, door), KeyValue::new(names::GROUP, group)];
        self.updates.add(1, &attributes);
    }

    /// The change log has about so many entries.
    pub(crate) fn change_log(&self, entries: u64) {
        self.change_log.record(entries, &[]);
    }

    /// One watches from now on, or no longer.
    pub(crate) fn watchers(&self, more: i64) {
        self.watchers.fetch_add(more, Ordering::Relaxed);
    }

    /// A stream has ended.
    pub(crate) fn watch_ended(&self, outcome: &'static str) {
        self.watches_ended.add(1, &[KeyValue::new(names::OUTCOME, outcome)]);
    }

    /// One who watches gets an entry of the change log.
    pub(crate) fn watch_lag(&self, age: Duration) {
        self.watch_lag.record(age.as_secs_f64(), &[]);
    }

    /// Has pools of connections looked at whenever metrics are read.
    pub(crate) fn observe_pools(&self, look: impl Fn() -> Vec<Pool> + Send + Sync + 'static) {
        let look = Arc::new(look);
        let pool_name =
            |pool: &Pool| KeyValue::new(names::DB_CLIENT_CONNECTION_POOL_NAME, pool.name);
        let pools = Arc::clone(&look);
        let count = self.meter.i64_observable_up_down_counter(names::DB_CLIENT_CONNECTION_COUNT);
        count
            .with_unit("{connection}")
            .with_description("How many connections to the database there are.")
            .with_callback(move |observer| {
                for pool in pools() {
                    for (state, count) in [("idle", pool.idle), ("used", pool.used)] {
                        let state = KeyValue::new(names::DB_CLIENT_CONNECTION_STATE, state);
                        observer.observe(count, &[pool_name(&pool), state]);
                    }
                }
            })
            .build();
        let bound = |name, help, of: fn(&Pool) -> i64| {
            let pools = Arc::clone(&look);
            let bound = self.meter.i64_observable_up_down_counter(name);
            bound
                .with_unit("{connection}")
                .with_description(help)
                .with_callback(move |observer| {
                    for pool in pools() {
                        observer.observe(of(&pool), &[pool_name(&pool)]);
                    }
                })
                .build();
        };
        let most = "How many connections to the database there may be.";
        bound(names::DB_CLIENT_CONNECTION_MAX, most, |pool| pool.most);
        let idle = "How many connections to the database may be idle.";
        bound(names::DB_CLIENT_CONNECTION_IDLE_MAX, idle, |pool| pool.most);
        let ready = "How many connections to the database are kept ready.";
        bound(names::DB_CLIENT_CONNECTION_IDLE_MIN, ready, |pool| pool.least);
    }
}

/// A pool of connections.
pub(crate) struct Pool {
    /// What it is for.
    pub(crate) name: &'static str,
    /// How many of its connections wait to be used.
    pub(crate) idle: i64,
    /// How many are used.
    pub(crate) used: i64,
    /// How many it may have.
    pub(crate) most: i64,
    /// How many it keeps.
    pub(crate) least: i64,
}

fn rpc(
    histogram: &Histogram<f64>,
    method: &'static str,
    code: &'static str,
    is_error: bool,
    took: Duration,
) {
    let attributes = [
        KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"),
        KeyValue::new(names::RPC_METHOD, method),
        KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, code),
        KeyValue::new(names::ERROR_TYPE, code),
    ];
    let count = if is_error { 4 } else { 3 };
    histogram.record(took.as_secs_f64(), &attributes[..count]);
}

/// Stands where there is no attribute; it is never recorded.
fn none() -> KeyValue {
    KeyValue::new("", "")
}
