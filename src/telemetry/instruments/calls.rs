//! Records calls.

use std::{sync::atomic::Ordering, time::Duration};

use opentelemetry::KeyValue;

use super::{
    Instruments,
    kept::{Histograms, Name},
};
use crate::telemetry::names;

/// A request's method, scheme and route; the route is empty for other paths.
type Request = (&'static str, &'static str, &'static str);
/// The HTTP status (`None` if the client has gone), and the row of the specification or the status.
type Answer = (Option<u16>, &'static str);

impl Instruments {
    /// A call begins.
    pub(crate) fn call_begins(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended.
    pub(crate) fn call_ends(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records a call with its gRPC code; `is_servers` marks a server error.
    pub(crate) fn call(
        &self,
        method: &'static str,
        code: &'static str,
        is_servers: bool,
        took: Duration,
    ) {
        rpc(&self.rpc_server, method, code, is_servers, &[], took);
    }

    /// Counts a call that was not answered OK.
    pub(crate) fn call_failed(&self, method: &'static str, outcome: &'static str) {
        let attributes =
            [KeyValue::new(names::RPC_METHOD, method), KeyValue::new(names::OUTCOME, outcome)];
        self.failed.add(1, &attributes);
    }

    /// Records a call of the gateway to the service.
    pub(crate) fn client_call(
        &self,
        method: &'static str,
        code: &'static str,
        server: &[KeyValue],
        took: Duration,
    ) {
        rpc(&self.rpc_client, method, code, code != "OK", server, took);
    }

    /// Counts gateway calls that the service did not answer.
    pub(crate) fn unanswered(&self, calls: u64) {
        self.unanswered.add(calls, &[]);
    }

    /// Counts calls that were shed: refused as overload, or past their deadline.
    pub(crate) fn shed(&self, calls: u64, reason: &'static str) {
        self.shed.add(calls, &[KeyValue::new(names::REASON, reason)]);
    }

    /// Counts legacy responses with this row.
    pub(crate) fn legacy_answers(&self, calls: u64, row: &'static str) {
        self.legacy_calls.add(Name(row), calls, || vec![KeyValue::new(names::ROW, row)]);
    }

    /// Records a request that was answered, or given up by its client.
    pub(crate) fn legacy_call(&self, request: Request, answer: Answer, took: Duration) {
        let ((method, scheme, route), (status, row)) = (request, answer);
        self.legacy_answers(1, row);
        let key = ([method, scheme, route, row].map(Name), status);
        self.http_server.record(key, took.as_secs_f64(), || {
            let mut attributes = vec![
                KeyValue::new(names::HTTP_REQUEST_METHOD, method),
                KeyValue::new(names::URL_SCHEME, scheme),
            ];
            if let Some(status) = status {
                let status = i64::from(status);
                attributes.push(KeyValue::new(names::HTTP_RESPONSE_STATUS_CODE, status));
            }
            if !route.is_empty() {
                attributes.push(KeyValue::new(names::HTTP_ROUTE, route));
            }
            if status.is_none_or(|status| status >= 500) {
                // For these responses the row is the HTTP status.
                attributes.push(KeyValue::new(names::ERROR_TYPE, row));
            }
            attributes
        });
    }

    /// Counts legacy calls whose hash was missing or wrong.
    pub(crate) fn hashes_failed(&self, calls: u64) {
        self.failed_hashes.add(calls, &[]);
    }
}

fn rpc(
    histograms: &Histograms<[Name; 2]>,
    method: &'static str,
    code: &'static str,
    is_error: bool,
    server: &[KeyValue],
    took: Duration,
) {
    histograms.record([method, code].map(Name), took.as_secs_f64(), || {
        let mut attributes = vec![
            KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"),
            KeyValue::new(names::RPC_METHOD, method),
            KeyValue::new(names::RPC_RESPONSE_STATUS_CODE, code),
        ];
        attributes.extend(is_error.then(|| KeyValue::new(names::ERROR_TYPE, code)));
        attributes.extend_from_slice(server);
        attributes
    });
}
