//! What every call has in common: a span in the caller's trace, a deadline, one line in the log, and a status.

use std::{pin::Pin, time::Duration};

use opentelemetry::{KeyValue, trace::SpanKind};
use prost::Message;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, metadata::MetadataMap};

use super::{errors, metered::Metered};
use crate::{
    credentials::LegacyCredentials,
    domain::{
        acting::Acting,
        deadline::within,
        error::{Error, chain},
        update::Door,
    },
    proto::code_name,
    telemetry::{metrics, names},
    trace::Span,
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
    let (mut response, call) = begin(method, metadata, longest, call).await?;
    call.end(None);
    let asked = metadata.contains_key("grpc-accept-encoding");
    if asked && response.get_ref().encoded_len() < LEAST_COMPRESSED {
        response.disable_compression();
    }
    Ok(response)
}

/// Runs a call that answers with a stream, until that is open. Whoever fills the stream gets the call, to end it.
pub(super) async fn open<T>(
    method: &'static str,
    metadata: &MetadataMap,
    longest: Duration,
    call: Pin<Box<impl Future<Output = Result<T, Error>>>>,
    filler: oneshot::Sender<Call>,
) -> Result<Response<T>, Status> {
    let (response, mut call) = begin(method, metadata, longest, call).await?;
    call.metered.opened();
    call.line.is_open = true;
    // It fails only where whoever fills the stream has panicked.
    let _ = filler.send(call);
    Ok(response)
}

/// Runs a call. Answers with the call as well, which has not ended.
async fn begin<T>(
    method: &'static str,
    metadata: &MetadataMap,
    longest: Duration,
    call: Pin<Box<impl Future<Output = Result<T, Error>>>>,
) -> Result<(Response<T>, Call), Status> {
    let span = Span::of_caller(metadata.as_ref()).below(SpanKind::Server, || method.into());
    span.tell(|| {
        [KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"), KeyValue::new(names::RPC_METHOD, method)]
    });
    let line = Line::new(method, door(metadata), span);
    let under_way = Call { metered: Metered::begin(method, line.begun), line };
    let line = &under_way.line;
    let in_time = |deadline: Duration| deadline - (deadline / 10).min(MARGIN);
    let deadline = deadline(metadata).map_or(longest, |deadline| in_time(deadline).min(longest));
    let call = line.span.during(line.acting.during(within(deadline, call)));
    match call.await.unwrap_or(Err(Error::DeadlineExceeded)) {
        Ok(answer) => Ok((Response::new(answer), under_way)),
        Err(error) => {
            under_way.end(Some(&error));
            Err(errors::status(&error))
        }
    }
}

/// A call under way: what ends with it.
pub(super) struct Call {
    metered: Metered,
    line: Line,
}

impl Call {
    /// It has ended.
    pub(super) fn end(mut self, error: Option<&Error>) {
        let took = self.line.begun.elapsed();
        self.metered.end(error, took);
        self.line.ends(error.map_or("OK", errors::reason), errors::code(error), error, took);
    }
}

/// Stands for a method that did not answer, as the semantic conventions have it: anybody may make up names.
pub(super) const OTHER: &str = "_OTHER";

/// The code and the outcome of a call that is dropped before its end: its caller does not wait for its answer, or it has panicked.
pub(super) fn dropped() -> (Code, &'static str) {
    if std::thread::panicking() {
        (Code::Internal, "INTERNAL")
    } else {
        (Code::Cancelled, "CANCELLED")
    }
}

/// The line of a call in the log, and its span. A call that is dropped has one, too.
struct Line {
    method: &'static str,
    door: Door,
    begun: Instant,
    acting: Acting,
    span: Span,
    /// Whether its stream is open.
    is_open: bool,
    written: bool,
}

impl Line {
    fn new(method: &'static str, door: Door, span: Span) -> Self {
        let (begun, acting) = (Instant::now(), Acting::default());
        Self { method, door, begun, acting, span, is_open: false, written: false }
    }

    fn ends(&mut self, outcome: &'static str, code: Code, error: Option<&Error>, took: Duration) {
        self.written = true;
        let code_name = code_name(code);
        self.span.tell(|| {
            [
                KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, code_name),
                KeyValue::new(names::OUTCOME, outcome),
            ]
        });
        if is_servers(code) {
            self.span.fails(|| code_name.into());
        }
        let _entered = self.span.enter();
        macro_rules! line {
            ($level:ident $($cause:tt)*) => {
                tracing::$level!(
                    trace_id = self.span.trace_id().map(display),
                    door = self.door.as_str(),
                    actor_id = self.acting.account(),
                    service = self.acting.service(),
                    rpc.method = self.method,
                    outcome,
                    milliseconds = took.as_secs_f64() * 1000.0
                    $($cause)*,
                    "call"
                )
            };
        }
        match error {
            Some(Error::Internal(cause)) => line!(error, cause = %chain(&**cause)),
            // Streams end so whenever the service stops, or the caller's rights change.
            Some(Error::Unavailable(cause)) if self.is_open => {
                line!(info, cause = %chain(&**cause));
            }
            Some(Error::Unavailable(cause)) => line!(warn, cause = %chain(&**cause)),
            _ => line!(info),
        }
        metrics::exemplar(names::RPC_SERVER_CALL_DURATION, &self.span, took, || {
            vec![
                (names::RPC_METHOD, self.method.to_owned()),
                (names::RPC_RESPONSE_STATUS_CODE, code_name.to_owned()),
            ]
        });
        self.span.end();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.written {
            let (code, outcome) = dropped();
            self.ends(outcome, code, None, self.begun.elapsed());
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
