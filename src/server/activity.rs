//! The activity of one connection: the calls that its protocol reports.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};

use super::{
    reasons::{Closed, Reason},
    registry::Registry,
    slot::{CALL, INCOMPLETE, Slot},
};

/// The activity of a connection. The protocol reports its calls here.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(super) slot: Arc<Slot>,
    registry: Arc<Registry>,
    /// The number of calls since the beginning.
    total: AtomicU64,
    /// Whether an old connection ends only with a response.
    ends_with_response: AtomicBool,
    is_old: AtomicBool,
}

impl Activity {
    fn new(slot: Arc<Slot>, registry: Arc<Registry>) -> Self {
        Self {
            slot,
            registry,
            total: AtomicU64::new(0),
            ends_with_response: AtomicBool::new(false),
            is_old: AtomicBool::new(false),
        }
    }

    /// Counts the connection for the address of its client, instead of its proxy's.
    ///
    /// # Errors
    /// The exhausted limit of that address.
    pub(super) fn moves_to(&self, address: IpAddr) -> Result<(), Reason> {
        self.registry.move_to(self.slot.id, address)
    }

    /// The number of calls since the beginning.
    pub(super) fn total_calls(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Makes an old connection end with its next response, for HTTP/1. Closing an idle connection
    /// could lose a request that the client has just sent.
    pub(crate) fn end_with_response(&self) {
        self.ends_with_response.store(true, Ordering::Relaxed);
    }

    /// Whether the next response must be the last one.
    pub(crate) fn is_old(&self) -> bool {
        self.is_old.load(Ordering::Relaxed)
    }

    /// Marks the connection as old. Waits until the connection must take no new calls.
    pub(super) async fn grow_old(&self) {
        self.slot.count_closed(Closed::Age);
        self.is_old.store(true, Ordering::Relaxed);
        if self.ends_with_response.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Begins a call, which ends with the body of its response. A call that `yields` counts as
    /// incomplete to its end: its connection may be closed to make room.
    pub(crate) fn call<B: Body>(
        self: &Arc<Self>,
        request: Request<B>,
        yields: bool,
    ) -> (Request<TrackedBody<B>>, Call) {
        self.total.fetch_add(1, Ordering::AcqRel);
        let is_incomplete = yields || !request.body().is_end_stream();
        // In one step: the connection must not count as active in between.
        self.change(|calls| calls + CALL + u64::from(is_incomplete) * INCOMPLETE);
        let share = |calls| Share { activity: Arc::clone(self), calls };
        let call = Call(share(CALL + u64::from(yields) * INCOMPLETE));
        let incomplete = (is_incomplete && !yields).then(|| share(INCOMPLETE));
        (request.map(|body| TrackedBody { body, share: incomplete }), call)
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        if self.slot.change(change) {
            self.registry.update(&self.slot);
        }
    }
}

/// The registration of a connection. Dropping the registration frees the connection's place.
#[derive(Debug)]
pub(super) struct Registration(pub(super) Arc<Activity>);

impl Registration {
    /// Registers a connection.
    ///
    /// # Errors
    /// The exhausted limit.
    pub(super) fn new(registry: &Arc<Registry>, address: IpAddr) -> Result<Self, Reason> {
        let slot = registry.admit(address)?;
        Ok(Self(Arc::new(Activity::new(slot, Arc::clone(registry)))))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.registry.remove(self.0.slot.id);
    }
}

/// A share of a connection's calls. Dropping the share subtracts its calls.
#[derive(Debug)]
struct Share {
    activity: Arc<Activity>,
    calls: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.activity.change(|calls| calls - self.calls);
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call(Share);

impl Call {
    /// Extends the call to the end of the response's body.
    pub(crate) fn answered<B>(self, response: Response<B>) -> Response<TrackedBody<B>> {
        response.map(|body| TrackedBody { body, share: Some(self.0) })
    }
}

/// A body that holds its share of the connection's calls until its end.
#[derive(Debug)]
pub(crate) struct TrackedBody<B> {
    body: B,
    share: Option<Share>,
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.share = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
