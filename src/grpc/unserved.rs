//! Calls that no method answers, but tonic itself.

use http::HeaderMap;
use opentelemetry::{KeyValue, trace::SpanKind};
use tokio::time::Instant;
use tonic::body::Body;

use super::{
    call::{OTHER, is_servers},
    errors, metered,
};
use crate::{
    domain::update::Door,
    proto::code_name,
    telemetry::names,
    trace::{self, Span},
};

/// What is told of a call that no method answers.
pub(super) struct Unserved {
    headers: HeaderMap,
    begun: Instant,
}

impl Unserved {
    /// A request, which a method may answer yet.
    pub(super) fn may_be<B>(request: &http::Request<B>) -> Self {
        Self { headers: trace::headers_of_caller(request.headers()), begun: Instant::now() }
    }

    /// Its answer. Where no method gave it, the call has a line, a span and is measured all the same.
    pub(super) fn answered(self, answer: http::Response<Body>) -> http::Response<Body> {
        let (answer, told) = errors::unserved(answer);
        let Some((code, outcome)) = told else { return answer };
        let (code_name, took) = (code_name(code), self.begun.elapsed());
        metered::unserved(code, outcome, took);
        let span = Span::of_caller(&self.headers);
        // It has ended already: it begins when it began.
        let span = span.below_since(SpanKind::Server, || "grpc".into(), took);
        // Not what its caller named: it may hold anything.
        span.tell(|| {
            [
                KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"),
                KeyValue::new(names::RPC_METHOD, OTHER),
                KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, code_name),
                KeyValue::new(names::OUTCOME, outcome),
            ]
        });
        if is_servers(code) {
            span.fails(|| code_name.into());
        }
        let _entered = span.enter();
        tracing::info!(
            trace_id = span.trace_id().map(display),
            door = Door::Grpc.as_str(),
            rpc.method = OTHER,
            outcome,
            milliseconds = took.as_secs_f64() * 1000.0,
            "call"
        );
        span.end();
        answer
    }
}
