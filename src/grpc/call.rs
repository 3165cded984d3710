//! What every call has in common: a span in the caller's trace, a deadline, one line in the log, and a status.

use std::{pin::Pin, time::Duration};

use prost::Message;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, body::Body, metadata::MetadataMap};
use tracing::{Instrument, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    errors,
    metered::{self, Metered},
};
use crate::{
    credentials::LegacyCredentials,
    domain::{
        acting::Acting,
        deadline::within,
        error::{Error, chain},
        update::Door,
    },
    proto::code_name,
    trace,
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

/// Runs a call: `method` is its full name, `longest` its deadline unless the caller's is sooner. `call` is a box, as each future
/// around one that is none would hold it twice.
pub(super) async fn run<T: Message>(
    method: &'static str,
    metadata: &MetadataMap,
    longest: Duration,
    call: Pin<Box<impl Future<Output = Result<T, Error>>>>,
) -> Result<Response<T>, Status> {
    let mut response = open(method, metadata, longest, call).await?;
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
    longest: Duration,
    call: Pin<Box<impl Future<Output = Result<T, Error>>>>,
) -> Result<Response<T>, Status> {
    let span = tracing::info_span!(
        "rpc",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = method,
        rpc.response.status_code = Empty,
        error.type = Empty,
        outcome = Empty,
    );
    let acting = Acting::default();
    if !span.is_disabled() {
        // Fails only where no tracer is installed.
        let _ = span.set_parent(trace::from_headers(metadata.as_ref()));
    } else if let Some(traceparent) = trace::parent_in(metadata.as_ref()) {
        acting.tell_trace(traceparent);
    }
    let mut line = Line::new(method, door(metadata), acting, span);
    let metered = Metered::begin(method, line.begun);
    let in_time = |deadline: Duration| deadline - (deadline / 10).min(MARGIN);
    let deadline = deadline(metadata).map_or(longest, |deadline| in_time(deadline).min(longest));
    let call = line.acting.during(within(deadline, call)).instrument(line.span.clone());
    let result = call.await.unwrap_or(Err(Error::DeadlineExceeded));
    metered.end(result.as_ref().err());
    let result = result.map_err(|error| {
        let status = errors::status(&error);
        line.ends(errors::reason(&error), status.code(), Some(&error));
        status
    })?;
    line.ends("OK", Code::Ok, None);
    Ok(Response::new(result))
}

/// A call's answer. Where no method gave it, it has a line and is measured all the same.
pub(super) async fn answered<E>(
    call: impl Future<Output = Result<http::Response<Body>, E>>,
) -> Result<http::Response<Body>, E> {
    let begun = Instant::now();
    let (answer, told) = errors::unserved(call.await?);
    let Some((code, outcome)) = told else { return Ok(answer) };
    let took = begun.elapsed();
    metered::unserved(code, took);
    tracing::info!(
        door = Door::Grpc.as_str(),
        rpc.method = OTHER,
        outcome,
        milliseconds = took.as_secs_f64() * 1000.0,
        "call"
    );
    Ok(answer)
}

/// Stands for a method that did not answer, as the semantic conventions have it: anybody may make up names.
pub(super) const OTHER: &str = "_OTHER";

/// The line of a call in the log, and its span. A call whose caller does not wait for its answer has one too.
struct Line {
    method: &'static str,
    door: Door,
    begun: Instant,
    acting: Acting,
    span: Span,
    written: bool,
}

impl Line {
    fn new(method: &'static str, door: Door, acting: Acting, span: Span) -> Self {
        Self { method, door, begun: Instant::now(), acting, span, written: false }
    }

    fn ends(&mut self, outcome: &'static str, code: Code, error: Option<&Error>) {
        self.written = true;
        let _entered = self.span.enter();
        self.span.record("outcome", outcome);
        self.span.record("rpc.response.status_code", code_name(code));
        if is_servers(code) {
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", code_name(code));
        }
        let trace_id = trace::id(&self.span);
        let trace_id = trace_id.as_deref().or_else(|| self.acting.traceparent().map(trace::id_in));
        macro_rules! line {
            ($level:ident $($cause:tt)*) => {
                tracing::$level!(
                    trace_id,
                    door = self.door.as_str(),
                    actor_id = self.acting.account(),
                    service = self.acting.service(),
                    rpc.method = self.method,
                    outcome,
                    milliseconds = self.begun.elapsed().as_secs_f64() * 1000.0
                    $($cause)*,
                    "call"
                )
            };
        }
        match error {
            Some(Error::Internal(cause)) => line!(error, cause = %chain(&**cause)),
            Some(Error::Unavailable(cause)) => line!(warn, cause = %chain(&**cause)),
            _ => line!(info),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.written {
            self.ends("CANCELLED", Code::Cancelled, None);
        }
    }
}

/// Whether a status is an error of the server, as the semantic conventions have it.
pub(super) fn is_servers(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// Through which door a call says to come; whether it does is for [`super::auth`] to know.
fn door(metadata: &MetadataMap) -> Door {
    let authorization = metadata.get("authorization").and_then(|value| value.to_str().ok());
    if authorization.is_some_and(LegacyCredentials::are_in) { Door::Legacy } else { Door::Grpc }
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
