//! The deadline of a call: the caller's or the service's, whichever is sooner. It starts at the
//! headers and covers reading the message. [`crate::grpc::streams`] limits sending the response.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};
use tower::Service;

use super::{
    exchange::{BoxFuture, Request, Response, refuse},
    trace::Begun,
};
use crate::domain::error::Error;

/// Maximum margin before the caller's deadline, so that the response arrives in time.
const ANSWER_MARGIN: Duration = Duration::from_millis(20);

/// Ends a call at its deadline.
#[derive(Clone)]
pub(in crate::grpc) struct Deadline<S> {
    pub(super) inner: S,
    pub(super) longest: Duration,
}

impl<S> Service<Request> for Deadline<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> BoxFuture<Response> {
        let in_time = |timeout: Duration| timeout - (timeout / 10).min(ANSWER_MARGIN);
        let timeout = grpc_timeout(request.headers())
            .map_or(self.longest, |timeout| in_time(timeout).min(self.longest));
        let deadline = Instant::now() + timeout;
        if let Some(begun) = request.extensions_mut().get_mut::<Begun>() {
            begun.context.deadline = Some(deadline);
        }
        let call = timeout_at(deadline, self.inner.call(request));
        Box::pin(async move { call.await.unwrap_or_else(|_| Ok(refuse(Error::DeadlineExceeded))) })
    }
}

/// Parses `grpc-timeout`: up to 8 digits and a unit, as in the specification of gRPC over HTTP/2.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
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
