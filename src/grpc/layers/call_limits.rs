//! Limits on the calls in flight and on the memory of their headers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::method::{Infrastructure, Route};
use crate::{
    budget::{BytesPermit, ConnectionBudget, MemoryBudget},
    grpc::http2::WINDOW_BYTES,
};

/// Calls in flight that a connection may have while the process is at its limit.
pub(crate) const CONNECTION_SHARE: usize = 8;
/// Maximum health checks and reflection calls in flight in the whole process.
pub(crate) const MAX_INFRASTRUCTURE_CALLS: usize = 512;
/// Health checks and reflection calls that a connection may have in flight at that limit. Any
/// client may open streams, but a probe must still be answered.
pub(crate) const INFRASTRUCTURE_SHARE: usize = 2;
/// Header bytes of a call that count in no budget: enough for most calls.
const FREE_HEADER_BYTES: usize = 2 * 1024;
/// Memory overhead of a header, in bytes: the slots of a hash map that is at most half full.
const HEADER_OVERHEAD: usize = 200;

/// Calls and memory of one connection, stored as a request extension.
#[derive(Debug)]
pub(in crate::grpc) struct ConnectionShare {
    pub(in crate::grpc) budget: Arc<ConnectionBudget>,
    calls: AtomicUsize,
    infrastructure_calls: AtomicUsize,
}

impl ConnectionShare {
    /// The share of a new connection.
    pub(in crate::grpc) fn new(budget: &Arc<MemoryBudget>) -> Arc<Self> {
        let [calls, infrastructure_calls] = [const { AtomicUsize::new(0) }; 2];
        Arc::new(Self { budget: budget.connection(), calls, infrastructure_calls })
    }
}

/// Counts the calls in flight.
#[derive(Debug)]
pub(in crate::grpc) struct CallLimits {
    max_calls: usize,
    calls: AtomicUsize,
    infrastructure_calls: AtomicUsize,
    /// Calls of the gateway in this process.
    gateway: AtomicUsize,
    /// Readiness checks of the gateway in this process.
    gateway_checks: AtomicUsize,
}

impl CallLimits {
    /// Admits `max_calls` at once, and more from connections with few calls.
    pub(in crate::grpc) fn new(max_calls: usize) -> Arc<Self> {
        let [calls, infrastructure_calls, gateway, gateway_checks] =
            [const { AtomicUsize::new(0) }; 4];
        Arc::new(Self { max_calls, calls, infrastructure_calls, gateway, gateway_checks })
    }

    /// Admits a call, unless there are too many.
    pub(super) fn admit<B>(
        self: &Arc<Self>,
        route: Route,
        request: &Request<B>,
    ) -> Option<AdmissionPermit> {
        let share = request.extensions().get::<Arc<ConnectionShare>>().cloned();
        let bytes = held_bytes(request.headers(), route);
        let memory = match &share {
            Some(share) if bytes > FREE_HEADER_BYTES => Some(share.budget.try_acquire(bytes)?),
            _ => None,
        };
        let permit = AdmissionPermit { limits: Arc::clone(self), share, route, _memory: memory };
        let (max, least) = match (&permit.share, route) {
            (Some(_), Route::Infrastructure(_)) => (MAX_INFRASTRUCTURE_CALLS, INFRASTRUCTURE_SHARE),
            // No limit: the gateway makes one check per probe of its own, and probes are few.
            (None, Route::Infrastructure(_)) => (0, usize::MAX),
            (Some(_), _) => (self.max_calls, CONNECTION_SHARE),
            (None, _) => (self.max_calls, (self.max_calls / 2).max(CONNECTION_SHARE)),
        };
        let [all, own] =
            permit.counters().map(|counter| counter.fetch_add(1, Ordering::Relaxed) + 1);
        (all <= max || own <= least).then_some(permit)
    }
}

/// The permit of a call in flight, released on drop. The response keeps the permit until it is
/// sent.
#[derive(Debug)]
pub(in crate::grpc) struct AdmissionPermit {
    limits: Arc<CallLimits>,
    share: Option<Arc<ConnectionShare>>,
    route: Route,
    /// Memory for headers and reflection input, if they exceed [`FREE_HEADER_BYTES`].
    _memory: Option<BytesPermit>,
}

impl AdmissionPermit {
    /// The counters for calls of this kind: of the process, and of the connection.
    fn counters(&self) -> [&AtomicUsize; 2] {
        let Self { limits, share, route, .. } = self;
        match (share, route) {
            (Some(share), Route::Infrastructure(_)) => {
                [&limits.infrastructure_calls, &share.infrastructure_calls]
            }
            (None, Route::Infrastructure(_)) => {
                [&limits.infrastructure_calls, &limits.gateway_checks]
            }
            (Some(share), _) => [&limits.calls, &share.calls],
            (None, _) => [&limits.calls, &limits.gateway],
        }
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        for counter in self.counters() {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The memory of all headers. Reflection also counts its flow control window, because its messages
/// are read one at a time.
fn held_bytes(headers: &HeaderMap, route: Route) -> usize {
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        HEADER_OVERHEAD + name.as_str().len() + value.len()
    };
    let headers: usize = headers.iter().map(header).sum();
    match route {
        Route::Infrastructure(Infrastructure::Reflection) => headers + WINDOW_BYTES as usize,
        _ => headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_headers_count_in_the_budget_of_their_connection() {
        let budget = MemoryBudget::new(40_000);
        let (limits, share) = (CallLimits::new(100), ConnectionShare::new(&budget));
        // One large header, then many headers.
        for headers in
            [vec![("x".to_owned(), 8000)], (0..40).map(|n| (format!("h{n}"), 0)).collect()]
        {
            let admit = |headers: &[(String, usize)]| {
                let mut request = Request::new(());
                for (name, length) in headers {
                    let name: HeaderName = name.parse().unwrap();
                    request.headers_mut().insert(name, "x".repeat(*length).parse().unwrap());
                }
                request.extensions_mut().insert(Arc::clone(&share));
                limits.admit(Route::Unknown, &request)
            };
            let large: Vec<_> = std::iter::from_fn(|| admit(&headers)).take(100).collect();
            assert_eq!(large.len(), 4);
            let small = admit(&[("x".to_owned(), 500)]);
            assert!(small.is_some());
            drop((large, small));
            assert_eq!(budget.used(), 0);
            assert!(admit(&headers).is_some());
        }
    }

    #[test]
    fn a_stream_of_reflection_has_room_for_what_is_sent_ahead() {
        let budget = MemoryBudget::new(1 << 20);
        let (limits, share) = (CallLimits::new(100), ConnectionShare::new(&budget));
        let mut request = Request::new(());
        request.extensions_mut().insert(share);
        let reflection = Route::Infrastructure(Infrastructure::Reflection);
        let streams: Vec<_> = (0..2).map_while(|_| limits.admit(reflection, &request)).collect();
        assert_eq!(streams.len(), 2);
        assert!(budget.used() >= WINDOW_BYTES as usize);
        assert!(limits.admit(reflection, &request).is_none());
    }
}
