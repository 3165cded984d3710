//! All telemetry names: OpenTelemetry's [semantic conventions] 1.44.0, and our own.
//!
//! [semantic conventions]: https://github.com/open-telemetry/semantic-conventions/tree/v1.44.0/docs

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $(
            $(#[$doc])*
            pub(crate) const $constant: &str = $name;
        )*

        /// All names.
        #[cfg(test)]
        pub(crate) const ALL: &[&str] = &[$($name),*];
    };
}

names! {
    /// Duration of a call on the service's side, in seconds.
    RPC_SERVER_CALL_DURATION = "rpc.server.call.duration";
    /// Duration of a call on the gateway's side, in seconds.
    RPC_CLIENT_CALL_DURATION = "rpc.client.call.duration";
    /// `grpc`.
    RPC_SYSTEM_NAME = "rpc.system.name";
    /// The full name of a method.
    RPC_METHOD = "rpc.method";
    /// The name of a gRPC code.
    RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code";
    /// The class of an error; absent without an error.
    ERROR_TYPE = "error.type";

    /// Duration of an HTTP request, in seconds.
    HTTP_SERVER_REQUEST_DURATION = "http.server.request.duration";
    /// The HTTP method, or `_OTHER`.
    HTTP_REQUEST_METHOD = "http.request.method";
    /// The HTTP method, if [`HTTP_REQUEST_METHOD`] is `_OTHER`.
    HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original";
    /// The path of the call.
    HTTP_ROUTE = "http.route";
    /// The HTTP status.
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code";
    /// Name or address of the called server.
    SERVER_ADDRESS = "server.address";
    /// Port of the called server.
    SERVER_PORT = "server.port";
    /// The address of a client, in log lines.
    CLIENT_ADDRESS = "client.address";
    /// `http` or `https`.
    URL_SCHEME = "url.scheme";
    /// The path of the call, without its query string.
    URL_PATH = "url.path";

    /// Duration of a statement, in seconds.
    DB_CLIENT_OPERATION_DURATION = "db.client.operation.duration";
    /// The database engine.
    DB_SYSTEM_NAME = "db.system.name";
    /// The first word of a statement.
    DB_OPERATION_NAME = "db.operation.name";
    /// The name of the database on its server.
    DB_NAMESPACE = "db.namespace";
    /// The table of a statement.
    DB_COLLECTION_NAME = "db.collection.name";
    /// The operation and the table.
    DB_QUERY_SUMMARY = "db.query.summary";
    /// Error code of the database.
    DB_RESPONSE_STATUS_CODE = "db.response.status_code";

    /// Number of connections in a pool.
    DB_CLIENT_CONNECTION_COUNT = "db.client.connection.count";
    /// Maximum number of connections.
    DB_CLIENT_CONNECTION_MAX = "db.client.connection.max";
    /// Maximum number of idle connections.
    DB_CLIENT_CONNECTION_IDLE_MAX = "db.client.connection.idle.max";
    /// Minimum number of idle connections.
    DB_CLIENT_CONNECTION_IDLE_MIN = "db.client.connection.idle.min";
    /// Number of requests that wait for a connection.
    DB_CLIENT_CONNECTION_PENDING_REQUESTS = "db.client.connection.pending_requests";
    /// Number of acquire timeouts.
    DB_CLIENT_CONNECTION_TIMEOUTS = "db.client.connection.timeouts";
    /// Time to acquire a connection, in seconds.
    DB_CLIENT_CONNECTION_WAIT_TIME = "db.client.connection.wait_time";
    /// Time between acquire and release of a connection, in seconds.
    DB_CLIENT_CONNECTION_USE_TIME = "db.client.connection.use_time";
    /// `idle` or `used`.
    DB_CLIENT_CONNECTION_STATE = "db.client.connection.state";
    /// The name of a pool.
    DB_CLIENT_CONNECTION_POOL_NAME = "db.client.connection.pool.name";

    /// CPU time of the process, in seconds.
    PROCESS_CPU_TIME = "process.cpu.time";
    /// `user` or `system`.
    CPU_MODE = "cpu.mode";
    /// Memory of the process, in bytes.
    PROCESS_MEMORY_USAGE = "process.memory.usage";
    /// Number of open file descriptors.
    PROCESS_UNIX_FILE_DESCRIPTOR_COUNT = "process.unix.file_descriptor.count";

    /// Responses to legacy calls.
    LEGACY_CALLS = "m4.legacy.calls";
    /// The row of the specification, or the HTTP status of requests that never reached the call.
    ROW = "row";
    /// Legacy calls with a missing or wrong hash.
    LEGACY_FAILED_HASHES = "m4.legacy.failed_hashes";
    /// Clients whose key was used from other addresses before.
    LEGACY_NEW_CLIENTS = "m4.legacy.new_clients";
    /// Blocks of legacy calls after too many wrong hashes.
    LEGACY_BLOCKS = "m4.legacy.blocks";
    /// The target of a block: `address` or `username`.
    KIND = "kind";
    /// Legacy calls with a right hash.
    LEGACY_KEY_CALLS = "m4.legacy.key_calls";
    /// The name of a key of legacy calls.
    KEY = "key";
    /// The hash recipe of a legacy call.
    RECIPE = "recipe";
    /// Stored updates that changed a field of a group.
    UPDATES = "m4.updates";
    /// The entry point of an update.
    DOOR = "door";
    /// A group of fields.
    GROUP = "group";
    /// Approximate number of change log entries.
    CHANGE_LOG_LENGTH = "m4.change_log.length";
    /// Age of change log entries when a watch stream delivers them, in seconds.
    WATCH_LAG = "m4.watch.lag";
    /// Number of watch streams.
    WATCHERS = "m4.watchers";
    /// Outcome of an operation. For calls: the reason of the error, `OK` or `CANCELLED`.
    OUTCOME = "outcome";
    /// The name of the authenticated caller, or of the key of a legacy call, in spans and log lines.
    IDENTITY = "identity";
    /// The rule that denied a call, in spans and log lines.
    RULE = "rule";
    /// Calls that were refused or given up.
    CALLS_SHED = "m4.calls.shed";
    /// Why a call was refused or given up.
    REASON = "reason";
    /// Calls that were not answered OK.
    CALLS_FAILED = "m4.calls.failed";
    /// Gateway calls that the service did not answer.
    DOOR_UNANSWERED = "m4.door.unanswered";
    /// Whether an update could be stored.
    READY = "m4.ready";
    /// Whether a cause keeps updates from being stored.
    NOT_READY = "m4.not_ready";
    /// A cause of [`NOT_READY`].
    CAUSE = "cause";
    /// OTLP exports.
    TELEMETRY_EXPORTS = "m4.telemetry.exports";
    /// An OTLP signal: `traces`, `metrics` or `logs`.
    SIGNAL = "signal";
    /// Calls in flight.
    CALLS_IN_FLIGHT = "m4.calls.in_flight";
    /// Connections of clients by listener and state.
    CONNECTIONS = "m4.connections";
    /// New connections that were closed at the connection limit.
    CONNECTIONS_REFUSED = "m4.connections.refused";
    /// Connections that the service closed: to make room, at a timeout, or at their maximum age.
    CONNECTIONS_CLOSED = "m4.connections.closed";
    /// A listener: `grpc`, `http` or `admin`.
    LISTENER = "listener";
    /// State of a connection: `idle`, `receiving`, `active` or `closing`.
    STATE = "state";
    /// Bytes of a byte budget in use.
    MEMORY_BUDGET_USAGE = "m4.memory_budget.usage";
    /// Size of a byte budget.
    MEMORY_BUDGET_LIMIT = "m4.memory_budget.limit";
    /// A byte budget: `messages`, `watch_entries` or `watch_responses`.
    BUDGET = "budget";
    /// Stored values that are unknown to this version.
    STORAGE_UNKNOWN_VALUES = "m4.storage.unknown_values";
    /// Number of updates in a transaction.
    WRITER_BATCH = "m4.writer.batch";
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs,
        path::Path,
    };

    use super::*;

    /// All Rust sources below a folder.
    fn sources(folder: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(sources(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
        found
    }

    #[test]
    fn fields_of_lines_have_names_that_stand_here() {
        // Field names must be literals in the macros.
        let prefixes = ["rpc.", "http.", "db.", "url.", "error.", "network.", "server.", "client."];
        let mut count = 0;
        for (path, text) in sources(Path::new("src")) {
            for line in text.lines() {
                let line = line.trim();
                let Some((name, _)) = line.split_once(" = ") else { continue };
                let is_name = |name: &str| {
                    name.chars().all(|letter| letter.is_ascii_lowercase() || "._".contains(letter))
                };
                if prefixes.iter().any(|prefix| name.starts_with(prefix)) && is_name(name) {
                    assert!(ALL.contains(&name), "{path}: {name}");
                    count += 1;
                }
            }
        }
        assert!(count >= 4, "{count} names were found");
    }

    /// The names of metrics, and the names of their attributes.
    fn measured() -> [BTreeSet<&'static str>; 2] {
        let lines = include_str!("names.rs").lines().map(str::trim);
        let constants: BTreeMap<_, _> =
            lines.filter_map(|line| line.strip_suffix("\";")?.split_once(" = \"")).collect();
        let (mut metrics, mut attributes) = (BTreeSet::new(), BTreeSet::new());
        let instruments = [
            include_str!("instruments.rs"),
            include_str!("instruments/budgets.rs"),
            include_str!("instruments/calls.rs"),
            include_str!("instruments/connections.rs"),
            include_str!("instruments/listeners.rs"),
            include_str!("instruments/statements.rs"),
            include_str!("process.rs"),
            // Attributes of each database.
            include_str!("../storage/connect/mod.rs"),
        ];
        let instruments = instruments.concat();
        let parts: Vec<_> = instruments.split("names::").collect();
        for pair in parts.windows(2) {
            let is_of_constant = |letter: char| letter.is_ascii_uppercase() || letter == '_';
            let constant = pair[1].split(|letter| !is_of_constant(letter)).next().unwrap();
            let of_attribute = pair[0].trim_end().ends_with("KeyValue::new(");
            let names = if of_attribute { &mut attributes } else { &mut metrics };
            names.insert(constants[constant]);
        }
        [metrics, attributes]
    }

    #[test]
    fn the_reference_has_every_metric_and_attribute_and_no_other() {
        let page = include_str!("../../docs/reference/metrics.md");
        let table = page.split_once("\n| metric | labels | what |\n").unwrap().1;
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let [mut named, mut labelled] = [BTreeSet::new(), BTreeSet::new()];
        for row in rows {
            let cells: Vec<_> = row.split('|').collect();
            let quoted = |cell: &'static str| cell.split('`').skip(1).step_by(2);
            named.extend(quoted(cells[1]));
            // The cells also contain some attribute values.
            labelled.extend(quoted(cells[2]).filter(|word| ALL.contains(word)));
        }
        let [metrics, attributes] = measured();
        assert!(metrics.len() > 10 && attributes.len() > 10, "{metrics:?} {attributes:?}");
        assert_eq!(named, metrics);
        assert_eq!(labelled, attributes);
    }

    #[test]
    fn the_names_of_older_conventions_are_gone() {
        // Joined at run time, so that this file does not contain the names.
        let old = [
            ["rpc.server", "duration"],
            ["rpc.client", "duration"],
            ["rpc.grpc", "status_code"],
            ["db", "system\""],
            ["db", "statement"],
            ["http", "status_code"],
        ];
        for (path, text) in sources(Path::new("src")) {
            for name in old {
                assert!(!text.contains(&name.join(".")), "{path}: {}", name.join("."));
            }
        }
    }
}
