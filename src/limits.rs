//! Every limit that a caller can meet, for `docs/reference/limits.md`.

use std::time::Duration;

use crate::{
    admin::SCRAPES,
    app::ADMIN_MEMORY,
    budget::CONNECTION_RESERVE,
    config::keys,
    credentials,
    domain::{
        legacy_block::MAX_BLOCKS,
        legacy_key::MAX_ACTIVE_KEYS,
        page_token::MAX_TOKEN_LENGTH,
        update::MAX_BATCH_TEXT_BYTES,
        watch::{CALLER_RESPONSES_LIMIT, ENTRIES_LIMIT, RESPONSES_LIMIT},
    },
    grpc::{
        http2::{HEADER_LIST_BYTES, MAX_STREAMS, WINDOW_BYTES},
        layers::{
            call_limits::{CONNECTION_SHARE, INFRASTRUCTURE_SHARE, MAX_INFRASTRUCTURE_CALLS},
            elements::{MAX_BATCH_SIZE, MAX_HASH_RECIPES, MAX_MASK_PATHS},
            message::MAX_PUBLIC_MESSAGE_BYTES,
        },
        outbox::{self, MAX_RESPONSES},
        paging::LARGEST_PAGE,
        streams::MIN_BYTES_PER_SECOND,
        user_details::watch::SEND_TIMEOUT,
        workers::{MAX_LARGE_CALLS, MIN_LARGE_CALLS},
    },
    legacy_call::body::{MAX_BOUNDARY, MAX_MEMBERS},
    networks::MAX_NETWORKS,
    retirement::{MAX_BROWNOUTS, MAX_LINK_BYTES},
    server::{
        FIRST_BYTE_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT,
        MAX_LINGER_BYTES, WRITE_TIMEOUT,
        descriptors::MAX_ADMIN_CONNECTIONS,
        head::{MAX_FIELD_COUNT, MAX_FIELDS, MAX_HEAD},
    },
    storage::watch_places::{MAX_PER_CALLER, MAX_SUBSCRIPTIONS},
};

const TOO_MANY: &str = "RESOURCE_EXHAUSTED, or HTTP 429";
const INVALID: &str = "INVALID_ARGUMENT";
const CLOSED: &str = "the connection is closed";

/// The limits as a Markdown table.
pub fn table() -> String {
    let mut rows = Vec::new();
    let mut row = |what: &str, limit: String, answer: &str| {
        rows.push(format!("| {what} | {limit} | {answer} |\n"));
    };
    row("size of a gRPC message after decompression", key("grpc.message_limit"), INVALID);
    row(
        "size of a message of health checks and reflection",
        bytes(MAX_PUBLIC_MESSAGE_BYTES),
        INVALID,
    );
    row("size of the headers of a gRPC call", bytes(HEADER_LIST_BYTES as usize), "HTTP 431");
    row("updates in a batch", MAX_BATCH_SIZE.to_string(), INVALID);
    row(
        "texts of an atomic batch, with users and previous values",
        bytes(MAX_BATCH_TEXT_BYTES),
        INVALID,
    );
    row("paths in a mask", MAX_MASK_PATHS.to_string(), INVALID);
    row("hash recipes in the settings", MAX_HASH_RECIPES.to_string(), INVALID);
    row("networks in the settings or in a configuration key", MAX_NETWORKS.to_string(), INVALID);
    row("active client keys", MAX_ACTIVE_KEYS.to_string(), "FAILED_PRECONDITION");
    row("blocks by operators", MAX_BLOCKS.to_string(), "FAILED_PRECONDITION");
    row("brownouts in the settings", MAX_BROWNOUTS.to_string(), INVALID);
    row("length of `retirement_link`", format!("{MAX_LINK_BYTES} bytes"), INVALID);
    row("items in a page", LARGEST_PAGE.to_string(), "the page has this many items");
    row("length of a page or resume token, in characters", MAX_TOKEN_LENGTH.to_string(), INVALID);
    row("size of the body of a legacy call after decoding", key("http.body_limit"), "HTTP 413");
    row("size of the head of an HTTP request", bytes(MAX_HEAD), "HTTP 413");
    row(
        "header fields of an HTTP request",
        format!("{}, {MAX_FIELD_COUNT} fields", bytes(MAX_FIELDS)),
        "HTTP 413",
    );
    row(
        "JSON members or multipart parts of a body",
        MAX_MEMBERS.to_string(),
        "row 9 of the legacy call",
    );
    row(
        "length of a multipart boundary",
        format!("{MAX_BOUNDARY} characters"),
        "row 9 of the legacy call",
    );
    let credentials = "size of `u`, `user_id` and `hash` together";
    row(credentials, bytes(credentials::MAX_CREDENTIALS_BYTES), "row 3 of the legacy call");
    row("memory of messages and responses", key("message_memory"), TOO_MANY);
    row("memory of one connection's messages", "half of it".to_owned(), TOO_MANY);
    row("memory reserved for each connection", bytes(CONNECTION_RESERVE), "none");
    row("calls in progress", key("max_in_flight"), TOO_MANY);
    row(
        "calls of one connection that are admitted at that limit",
        CONNECTION_SHARE.to_string(),
        TOO_MANY,
    );
    let large = "large messages handled at the same time, depending on processors";
    row(large, format!("{MIN_LARGE_CALLS} to {MAX_LARGE_CALLS}"), "the call waits");
    let probes = "health checks and reflection in progress";
    row(probes, MAX_INFRASTRUCTURE_CALLS.to_string(), "RESOURCE_EXHAUSTED");
    let share = "health checks and reflection of one connection at that limit";
    row(share, INFRASTRUCTURE_SHARE.to_string(), "RESOURCE_EXHAUSTED");
    row("streams of a gRPC connection", MAX_STREAMS.to_string(), "the client waits");
    row(
        "flow-control window of a gRPC connection",
        bytes(WINDOW_BYTES as usize),
        "the client waits",
    );
    row("watches", MAX_SUBSCRIPTIONS.to_string(), TOO_MANY);
    row("watches of one caller", MAX_PER_CALLER.to_string(), TOO_MANY);
    let waiting = "unread responses of a watch";
    let room = format!("{MAX_RESPONSES}, or {}", bytes(outbox::MAX_BYTES));
    row(waiting, room, "the watch waits");
    row("memory of entries for all watches", bytes(ENTRIES_LIMIT), "stalled watches end");
    row("memory of responses for all watches", bytes(RESPONSES_LIMIT), "stalled watches end");
    row(
        "memory of responses for the watches of one caller",
        bytes(CALLER_RESPONSES_LIMIT),
        "stalled watches of the caller end",
    );
    row("duration of a call", key("deadline_seconds") + " s", "DEADLINE_EXCEEDED, or HTTP 503");
    let body = key("deadline_seconds") + " s";
    row("time to receive the body of a legacy call", body, "HTTP 400");
    row(
        "time to send a response",
        format!("`deadline_seconds`, and 1 s more for every {}", bytes(MIN_BYTES_PER_SECOND)),
        "the stream is reset",
    );
    row("time without reading, of the client of a watch", seconds(SEND_TIMEOUT), TOO_MANY);
    row(
        "connections of a listener",
        key("connections.max"),
        "the connection that waited longest is closed",
    );
    row(
        "connections of one address",
        key("connections.max_per_address"),
        "the connection that waited longest is closed",
    );
    row(
        "connections of the admin listener",
        MAX_ADMIN_CONNECTIONS.to_string(),
        "the connection that waited longest, of the address with most connections, is closed",
    );
    row("memory of requests to the admin listener", bytes(ADMIN_MEMORY), "HTTP 429");
    row("scrapes of metrics at the same time", SCRAPES.to_string(), "HTTP 503");
    row("time to the first byte of a connection", seconds(FIRST_BYTE_TIMEOUT), CLOSED);
    row("duration of a TLS handshake", seconds(HANDSHAKE_TIMEOUT), CLOSED);
    row("time to receive the head of an HTTP request", seconds(HEAD_TIMEOUT), CLOSED);
    row("time to receive the preface and the settings of HTTP/2", seconds(HEAD_TIMEOUT), CLOSED);
    row("idle time of an HTTP connection", seconds(IDLE_TIMEOUT), CLOSED);
    let silent = "silence of a gRPC connection";
    row(silent, key("grpc.keepalive_seconds") + " s and a third of it", CLOSED);
    row("time without progress of a write", seconds(WRITE_TIMEOUT), CLOSED);
    let age = key("grpc.connection_age_seconds") + " s";
    row("age of a connection", age, "it takes no new calls");
    let grace = key("grpc.connection_grace_seconds") + " s";
    row("time for calls in progress at that age", grace, CLOSED);
    row("time for calls in progress after SIGTERM", key("drain_seconds") + " s", CLOSED);
    let late = "data from a client on a closing connection";
    let limit = format!("{}, or {}", seconds(LINGER_TIMEOUT), bytes(MAX_LINGER_BYTES));
    row(late, limit, "further data is not read");
    format!("| limit | value | effect |\n| --- | --- | --- |\n{}", rows.concat())
}

/// A configuration key and its default.
fn key(path: &str) -> String {
    let key = keys().find(|key| key.path == path);
    format!("`{path}`, {}", key.map_or("", |key| key.default))
}

fn bytes(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}
