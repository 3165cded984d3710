//! Every limit that a caller can meet, as the README lists them.

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
    row("a gRPC message, decompressed", key("grpc.message_limit"), INVALID);
    row("a message of a health check or of reflection", bytes(MAX_PUBLIC_MESSAGE_BYTES), INVALID);
    row("the headers of a gRPC call", bytes(HEADER_LIST_BYTES as usize), "HTTP 431");
    row("updates of a batch", MAX_BATCH_SIZE.to_string(), INVALID);
    row("texts of an atomic batch, its users and old values", bytes(MAX_BATCH_TEXT_BYTES), INVALID);
    row("paths of a mask", MAX_MASK_PATHS.to_string(), INVALID);
    row("hash recipes of the settings", MAX_HASH_RECIPES.to_string(), INVALID);
    row("networks of the settings or of a configuration key", MAX_NETWORKS.to_string(), INVALID);
    row("active client keys", MAX_ACTIVE_KEYS.to_string(), "FAILED_PRECONDITION");
    row("blocks by operators", MAX_BLOCKS.to_string(), "FAILED_PRECONDITION");
    row("brownouts of the settings", MAX_BROWNOUTS.to_string(), INVALID);
    row("`retirement_link` of the settings", format!("{MAX_LINK_BYTES} bytes"), INVALID);
    row("items of a page", LARGEST_PAGE.to_string(), "a page of so many items");
    row("characters of a page or resume token", MAX_TOKEN_LENGTH.to_string(), INVALID);
    row("the body of a legacy call, decoded", key("http.body_limit"), "HTTP 413");
    row("the head of an HTTP request", bytes(MAX_HEAD), "HTTP 413");
    row(
        "its header fields",
        format!("{}, {MAX_FIELD_COUNT} fields", bytes(MAX_FIELDS)),
        "HTTP 413",
    );
    row("JSON members or multipart parts", MAX_MEMBERS.to_string(), "row 9 of the legacy call");
    row("a multipart boundary", format!("{MAX_BOUNDARY} characters"), "row 9 of the legacy call");
    let credentials = "`u`, `user_id` and `hash` of a legacy call together";
    row(credentials, bytes(credentials::MAX_CREDENTIALS_BYTES), "as without `hash`");
    row("memory of messages and answers", key("message_memory"), TOO_MANY);
    row("memory of one connection's messages", "half".to_owned(), TOO_MANY);
    row("reserved for each connection", bytes(CONNECTION_RESERVE), "none");
    row("calls under way", key("max_in_flight"), TOO_MANY);
    row("calls of a connection, admitted at that limit", CONNECTION_SHARE.to_string(), TOO_MANY);
    let large = "large messages that are handled at a time, by processors";
    row(large, format!("{MIN_LARGE_CALLS} to {MAX_LARGE_CALLS}"), "the call waits");
    let probes = "health checks and reflection under way";
    row(probes, MAX_INFRASTRUCTURE_CALLS.to_string(), "RESOURCE_EXHAUSTED");
    let share = "health checks and reflection of a connection, at that limit";
    row(share, INFRASTRUCTURE_SHARE.to_string(), "RESOURCE_EXHAUSTED");
    row("streams of a gRPC connection", MAX_STREAMS.to_string(), "the client waits");
    row(
        "data that a gRPC connection sends ahead",
        bytes(WINDOW_BYTES as usize),
        "the client waits",
    );
    row("watches", MAX_SUBSCRIPTIONS.to_string(), TOO_MANY);
    row("watches of one caller", MAX_PER_CALLER.to_string(), TOO_MANY);
    let waiting = "responses of a watch that its client has not read";
    let room = format!("{MAX_RESPONSES}, or {}", bytes(outbox::MAX_BYTES));
    row(waiting, room, "the watch waits");
    row("memory of entries for all watches", bytes(ENTRIES_LIMIT), "stalled watches end");
    row("memory of responses for all watches", bytes(RESPONSES_LIMIT), "stalled watches end");
    row("a caller's part of it", bytes(CALLER_RESPONSES_LIMIT), "its stalled watches end");
    row("a call", key("deadline_seconds") + " s", "DEADLINE_EXCEEDED, or HTTP 503");
    let body = key("deadline_seconds") + " s";
    row("receiving the body of a legacy call", body, "HTTP 400");
    row(
        "sending an answer",
        format!("the same, and 1 s more for every {}", bytes(MIN_BYTES_PER_SECOND)),
        "the stream is reset",
    );
    row("a watch that does not read", seconds(SEND_TIMEOUT), TOO_MANY);
    row(
        "connections of a listener",
        key("connections.max"),
        "the longest waiting connection is closed",
    );
    row(
        "connections of one address",
        key("connections.max_per_address"),
        "the longest waiting connection is closed",
    );
    row(
        "connections of the admin listener",
        MAX_ADMIN_CONNECTIONS.to_string(),
        "the longest waiting connection of the address with most is closed",
    );
    row("memory of requests to the admin listener", bytes(ADMIN_MEMORY), "HTTP 429");
    row("scrapes of metrics at a time", SCRAPES.to_string(), "HTTP 503");
    row("the first byte of a connection", seconds(FIRST_BYTE_TIMEOUT), CLOSED);
    row("a TLS handshake", seconds(HANDSHAKE_TIMEOUT), CLOSED);
    row("the head of an HTTP request", seconds(HEAD_TIMEOUT), CLOSED);
    row("the preface and the settings of HTTP/2", seconds(HEAD_TIMEOUT), CLOSED);
    row("an idle HTTP connection", seconds(IDLE_TIMEOUT), CLOSED);
    let silent = "a gRPC connection without a sign of life";
    row(silent, key("grpc.keepalive_seconds") + " s and a third of it", CLOSED);
    row("a write that makes no progress", seconds(WRITE_TIMEOUT), CLOSED);
    let age = key("grpc.connection_age_seconds") + " s";
    row("the age of a connection", age, "it takes no new calls");
    let grace = key("grpc.connection_grace_seconds") + " s";
    row("calls under way on a connection of that age", grace, CLOSED);
    row("calls under way after SIGTERM", key("drain_seconds") + " s", CLOSED);
    let late = "what a client still sends on a connection that is being closed";
    let limit = format!("{}, or {}", seconds(LINGER_TIMEOUT), bytes(MAX_LINGER_BYTES));
    row(late, limit, "it is not read");
    format!("| what | limit | answer |\n| --- | --- | --- |\n{}", rows.concat())
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
