//! The metric instruments.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter},
};

mod budgets;
mod calls;
mod connections;
mod kept;
mod listeners;
mod statements;

pub(crate) use budgets::Budget;
use connections::Connections;
pub(crate) use connections::Pool;
use kept::{Counters, Histograms, Name};
use listeners::Listeners;
use statements::Statements;
pub(crate) use statements::{Failure, is_one, summary};

use super::names;

/// Histogram boundaries of call durations, in seconds, as the semantic conventions advise.
pub(super) const CALLS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Histogram boundaries of watch lag, in seconds.
const LAGS: [f64; 18] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0, 600.0,
];
/// Histogram boundaries of updates per transaction.
const UPDATES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1000.0];

static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();

/// The instruments; `None` if metrics are disabled.
pub(crate) fn instruments() -> Option<&'static Instruments> {
    INSTRUMENTS.get()
}

/// Records metrics with `meter` from now on.
pub(super) fn install(meter: Meter) {
    // `set` fails only in a process that starts twice, which no command does.
    let _ = INSTRUMENTS.set(Instruments::new(meter));
}

/// All instruments.
pub(crate) struct Instruments {
    meter: Meter,
    /// The connection pools.
    pub(crate) connections: Connections,
    /// The listeners.
    pub(crate) listeners: Listeners,
    /// By method and code.
    rpc_server: Histograms<[Name; 2]>,
    rpc_client: Histograms<[Name; 2]>,
    /// By method, scheme, route, status and row.
    http_server: Histograms<([Name; 4], Option<u16>)>,
    /// The SQL statements.
    pub(crate) statements: Statements,
    /// By row.
    legacy_calls: Counters<Name>,
    failed_hashes: Counter<u64>,
    new_clients: Counter<u64>,
    /// By kind.
    legacy_blocks: Counter<u64>,
    /// By key, recipe and method.
    key_calls: Counter<u64>,
    /// By entry point and field group.
    updates: Counters<[Name; 2]>,
    batch: Histogram<u64>,
    change_log: Gauge<u64>,
    watch_lag: Histogram<f64>,
    watchers: Level,
    shed: Counter<u64>,
    failed: Counter<u64>,
    unanswered: Counter<u64>,
    exports: Counter<u64>,
    unknown_values: Counter<u64>,
    ready: Gauge<u64>,
    not_ready: Gauge<u64>,
    in_flight: Level,
}

/// A value that is observed at collection, so that a change costs one atomic operation.
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
            rpc_server: Histograms::new(seconds(
                names::RPC_SERVER_CALL_DURATION,
                "Duration of RPCs; of streams, until they end.",
                &CALLS,
            )),
            rpc_client: Histograms::new(seconds(
                names::RPC_CLIENT_CALL_DURATION,
                "Duration of the gateway's RPCs to the service.",
                &CALLS,
            )),
            http_server: Histograms::new(seconds(
                names::HTTP_SERVER_REQUEST_DURATION,
                "Duration of legacy calls.",
                &CALLS,
            )),
            statements: Statements::new(&meter),
            legacy_calls: Counters::new(counter(
                names::LEGACY_CALLS,
                "{call}",
                "Responses to legacy calls, by row of the specification, or by HTTP status without a row.",
            )),
            failed_hashes: counter(
                names::LEGACY_FAILED_HASHES,
                "{call}",
                "Legacy calls with a missing or wrong hash.",
            ),
            new_clients: counter(
                names::LEGACY_NEW_CLIENTS,
                "{client}",
                "Clients that use a key which other addresses have used before.",
            ),
            legacy_blocks: counter(
                names::LEGACY_BLOCKS,
                "{block}",
                "Addresses and usernames that have reached a limit of wrong hashes.",
            ),
            key_calls: counter(
                names::LEGACY_KEY_CALLS,
                "{call}",
                "Legacy calls with a right hash, by key, recipe and method.",
            ),
            updates: Counters::new(counter(
                names::UPDATES,
                "{update}",
                "Stored updates that changed a field of the group.",
            )),
            batch: meter
                .u64_histogram(names::WRITER_BATCH)
                .with_unit("{update}")
                .with_description("Stored updates per transaction.")
                .with_boundaries(UPDATES.to_vec())
                .build(),
            change_log: meter
                .u64_gauge(names::CHANGE_LOG_LENGTH)
                .with_unit("{entry}")
                .with_description(
                    "Approximate number of change log entries, measured every minute.",
                )
                .build(),
            watch_lag: seconds(
                names::WATCH_LAG,
                "Age of change log entries at delivery to watches.",
                &LAGS,
            ),
            watchers: level(names::WATCHERS, "{stream}", "Open watch streams."),
            shed: counter(
                names::CALLS_SHED,
                "{call}",
                "Calls that were refused as overload, or exceeded their deadline.",
            ),
            failed: counter(
                names::CALLS_FAILED,
                "{call}",
                "Failed calls, by the reason of the error.",
            ),
            unanswered: counter(
                names::DOOR_UNANSWERED,
                "{call}",
                "Gateway calls without a response from the service.",
            ),
            exports: counter(names::TELEMETRY_EXPORTS, "{export}", "OTLP exports, by outcome."),
            unknown_values: counter(
                names::STORAGE_UNKNOWN_VALUES,
                "{value}",
                "Reads of stored values that this version does not know.",
            ),
            ready: meter
                .u64_gauge(names::READY)
                .with_description("1 if an update could be stored, otherwise 0.")
                .build(),
            not_ready: meter
                .u64_gauge(names::NOT_READY)
                .with_description("1 if this cause prevents the storing of updates, otherwise 0.")
                .build(),
            in_flight: level(names::CALLS_IN_FLIGHT, "{call}", "Calls in flight."),
            connections: Connections::new(&meter),
            listeners: Listeners::new(&meter),
            meter,
        }
    }

    /// Counts OTLP exports.
    pub(crate) fn exports(&self, exports: u64, signal: &'static str, outcome: &'static str) {
        let attributes =
            [KeyValue::new(names::SIGNAL, signal), KeyValue::new(names::OUTCOME, outcome)];
        self.exports.add(exports, &attributes);
    }

    /// Sets whether a cause keeps updates from being stored.
    pub(crate) fn not_ready(&self, is_so: bool, cause: &'static str) {
        self.not_ready.record(u64::from(is_so), &[KeyValue::new(names::CAUSE, cause)]);
    }

    /// Sets whether an update could be stored.
    pub(crate) fn ready(&self, is_ready: bool) {
        self.ready.record(u64::from(is_ready), &[]);
    }

    /// Records the number of updates in a stored transaction.
    pub(crate) fn transaction(&self, updates: usize) {
        self.batch.record(u64::try_from(updates).unwrap_or(u64::MAX), &[]);
    }

    /// Counts stored updates by entry point and field group.
    pub(crate) fn updates(&self, updates: u64, door: &'static str, group: &'static str) {
        self.updates.add([door, group].map(Name), updates, || {
            vec![KeyValue::new(names::DOOR, door), KeyValue::new(names::GROUP, group)]
        });
    }

    /// Counts clients that use a known key from a new address.
    pub(crate) fn new_legacy_client(&self, clients: u64) {
        self.new_clients.add(clients, &[]);
    }

    /// Counts blocks of a kind: `address` or `username`.
    pub(crate) fn legacy_blocks(&self, blocks: u64, kind: &'static str) {
        self.legacy_blocks.add(blocks, &[KeyValue::new(names::KIND, kind)]);
    }

    /// Counts legacy calls with a right hash.
    pub(crate) fn key_calls(&self, calls: u64, key: String, recipe: &'static str, is_get: bool) {
        let method = if is_get { "GET" } else { "POST" };
        let attributes = [
            KeyValue::new(names::KEY, key),
            KeyValue::new(names::RECIPE, recipe),
            KeyValue::new(names::HTTP_REQUEST_METHOD, method),
        ];
        self.key_calls.add(calls, &attributes);
    }

    /// Sets the approximate length of the change log.
    pub(crate) fn change_log(&self, entries: u64) {
        self.change_log.record(entries, &[]);
    }

    /// Adds to the number of watch streams; a negative number subtracts.
    pub(crate) fn watchers(&self, more: i64) {
        self.watchers.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts unknown values of a table.
    pub(crate) fn unknown_values(&self, values: u64, table: &'static str) {
        self.unknown_values.add(values, &[KeyValue::new(names::DB_COLLECTION_NAME, table)]);
    }

    /// Records the age of a change log entry at delivery.
    pub(crate) fn watch_lag(&self, age: Duration) {
        self.watch_lag.record(age.as_secs_f64(), &[]);
    }
}
