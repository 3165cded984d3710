//! What every call has in common: a span in the caller's trace, a deadline, one line in the log, and a status.

use std::time::Duration;

use opentelemetry::{global, propagation::Extractor};
use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{
    Extensions, Response, Status,
    metadata::{KeyRef, MetadataMap},
};
use tracing::{Instrument, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{auth::InProcessDoor, errors, metered::Metered};
use crate::domain::{
    deadline::within,
    error::{Error, chain},
};

/// What every call is bound by.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// The longest that a call takes; a watch goes on.
    pub deadline: Duration,
    /// How often one who watches hears of it that there is nothing to tell.
    pub heartbeat: Duration,
    /// The largest body that the door reads, in bytes.
    pub largest_body: usize,
    /// The largest message, in bytes, either way and when it is not compressed.
    pub largest_message: usize,
    /// Ends those who watch.
    pub stop: CancellationToken,
}

/// Runs a call: `method` is its full name, `longest` its deadline unless the caller's is sooner.
pub(super) async fn run<T: Message>(
    method: &'static str,
    metadata: &MetadataMap,
    extensions: &Extensions,
    longest: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    let mut response = open(method, metadata, extensions, longest, call).await?;
    let asked = metadata.contains_key("grpc-accept-encoding");
    if asked && response.get_ref().encoded_len() < LEAST_COMPRESSED {
        response.disable_compression();
    }
    Ok(response)
}

/// Runs a call that answers with a stream, until that is open.
pub(super) async fn open<T>(
    method: &'static str,
    metadata: &MetadataMap,
    extensions: &Extensions,
    longest: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    let span = tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        outcome = Empty,
    );
    let parent =
        global::get_text_map_propagator(|propagator| propagator.extract(&Metadata(metadata)));
    // Fails only where no tracer is installed.
    let _ = span.set_parent(parent);
    let begun = Instant::now();
    let metered = Metered::begin(method, begun);
    let in_time = |deadline: Duration| deadline - (deadline / 10).min(MARGIN);
    let deadline = deadline(metadata).map_or(longest, |deadline| in_time(deadline).min(longest));
    let outcome = within(deadline, call).instrument(span.clone()).await;
    let result = outcome.unwrap_or(Err(Error::DeadlineExceeded));
    let outcome = result.as_ref().map_or_else(errors::reason, |_| "OK");
    metered.end(result.as_ref().err());
    span.record("outcome", outcome);
    let _entered = span.enter();
    let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
    match &result {
        Err(Error::Internal(cause)) => {
            tracing::Span::current().record("otel.status_code", "ERROR");
            tracing::error!(rpc.method = method, outcome, milliseconds, cause = %chain(&**cause), "call");
        }
        Err(Error::Unavailable(cause)) => {
            tracing::Span::current().record("otel.status_code", "ERROR");
            tracing::warn!(rpc.method = method, outcome, milliseconds, cause = %chain(&**cause), "call");
        }
        // The door writes the line of a call through it.
        _ if extensions.get::<InProcessDoor>().is_some() => {
            tracing::debug!(rpc.method = method, outcome, milliseconds, "call");
        }
        _ => tracing::info!(rpc.method = method, outcome, milliseconds, "call"),
    }
    result.map(Response::new).map_err(|error| errors::status(&error))
}

/// How much sooner than at the caller's deadline a call ends, at most: the answer must be there in time.
const MARGIN: Duration = Duration::from_millis(20);

/// The least answer that is compressed, in bytes: a smaller one fits in a packet as it is.
const LEAST_COMPRESSED: usize = 1024;

/// The caller's deadline: up to 8 digits and a unit, as the gRPC specification of HTTP/2 has it.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

struct Metadata<'a>(&'a MetadataMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let text = |key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        };
        self.0.keys().filter_map(text).collect()
    }
}
