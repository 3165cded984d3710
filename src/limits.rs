//! Every limit that a caller can meet, as the README lists them.

use std::time::Duration;

use crate::{
    budget::CONNECTION_RESERVE,
    config::KEYS,
    domain::{
        page_token::MAX_TOKEN_LENGTH,
        watch::{CALLER_RESPONSES_LIMIT, ENTRIES_LIMIT, RESPONSES_LIMIT},
    },
    grpc::{
        layers::{
            admission::{CONNECTION_SHARE, INFRASTRUCTURE_SHARE, MAX_INFRASTRUCTURE_CALLS},
            elements::{MAX_BATCH_SIZE, MAX_HASH_RECIPES, MAX_MASK_PATHS},
            message::MAX_PUBLIC_MESSAGE_BYTES,
        },
        listing::LARGEST_PAGE,
        server::MAX_STREAMS,
        streams::MIN_BYTES_PER_SECOND,
        watch::SEND_TIMEOUT,
    },
    legacy::limits::{MAX_FIELD_COUNT, MAX_FIELDS, MAX_HEAD, MAX_MEMBERS},
    listen::{
        FIRST_BYTE_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, WRITE_TIMEOUT,
        descriptors::MAX_ADMIN_CONNECTIONS,
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
    row("updates of a batch", MAX_BATCH_SIZE.to_string(), INVALID);
    row("paths of a mask", MAX_MASK_PATHS.to_string(), INVALID);
    row("hash recipes of the settings", MAX_HASH_RECIPES.to_string(), INVALID);
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
    row("memory of messages and answers", key("message_memory"), TOO_MANY);
    row("memory of one connection's messages", "half".to_owned(), TOO_MANY);
    row("reserved for each connection", bytes(CONNECTION_RESERVE), "none");
    row("calls under way", key("max_in_flight"), TOO_MANY);
    row("calls of a connection, admitted at that limit", CONNECTION_SHARE.to_string(), TOO_MANY);
    let probes = "health checks and reflection under way";
    row(probes, MAX_INFRASTRUCTURE_CALLS.to_string(), "RESOURCE_EXHAUSTED");
    let share = "health checks and reflection of a connection, at that limit";
    row(share, INFRASTRUCTURE_SHARE.to_string(), "RESOURCE_EXHAUSTED");
    row("streams of a gRPC connection", MAX_STREAMS.to_string(), "the client waits");
    row("watches", MAX_SUBSCRIPTIONS.to_string(), TOO_MANY);
    row("watches of one caller", MAX_PER_CALLER.to_string(), TOO_MANY);
    row("memory of entries for all watches", bytes(ENTRIES_LIMIT), "stalled watches end");
    row("memory of responses for all watches", bytes(RESPONSES_LIMIT), "stalled watches end");
    row("a caller's part of it", bytes(CALLER_RESPONSES_LIMIT), "its stalled watches end");
    row("a call", key("deadline_seconds") + " s", "DEADLINE_EXCEEDED, or HTTP 503");
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
    row("connections of the admin listener", MAX_ADMIN_CONNECTIONS.to_string(), CLOSED);
    row("the first byte of a connection", seconds(FIRST_BYTE_TIMEOUT), CLOSED);
    row("a TLS handshake", seconds(HANDSHAKE_TIMEOUT), CLOSED);
    row("the head of an HTTP request", seconds(HEAD_TIMEOUT), CLOSED);
    row("the preface and the settings of HTTP/2", seconds(HEAD_TIMEOUT), CLOSED);
    row("an idle HTTP connection", seconds(IDLE_TIMEOUT), CLOSED);
    row("a write that makes no progress", seconds(WRITE_TIMEOUT), CLOSED);
    format!("| what | limit | answer |\n| --- | --- | --- |\n{}", rows.concat())
}

/// The default of a configuration key, and its name.
fn key(path: &str) -> String {
    let key = KEYS.iter().find(|key| key.path == path);
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
