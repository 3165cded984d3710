//! Large calls: decoding and converting megabytes would hold up other calls on an async worker.

use std::{sync::Arc, thread::available_parallelism};

use http::Extensions;
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        acting::Acting,
        deadline,
        error::{Cause, Error},
    },
    trace::Span,
};

/// The most large calls at once, whatever the number of processors: each may take some times the
/// size of its message.
pub(crate) const MAX_LARGE_CALLS: usize = 4;
pub(crate) const MIN_LARGE_CALLS: usize = 2;

/// Marks a request whose call runs on a worker already: waiting there for another worker could last
/// for ever.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct OnWorker;

impl OnWorker {
    /// Whether a request is marked.
    pub(in crate::grpc) fn is_in(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some()
    }
}

/// Runs large calls on threads of their own, a bounded number at a time.
#[derive(Debug)]
pub(in crate::grpc) struct Workers {
    permits: Arc<Semaphore>,
}

impl Workers {
    /// As many workers as there are processors, within the bounds.
    pub(in crate::grpc) fn new() -> Arc<Self> {
        let processors = available_parallelism().map_or(MIN_LARGE_CALLS, usize::from);
        let workers = processors.clamp(MIN_LARGE_CALLS, MAX_LARGE_CALLS);
        Arc::new(Self { permits: Arc::new(Semaphore::new(workers)) })
    }

    /// Runs a part of a call, on a worker if it is large.
    ///
    /// # Errors
    /// Those of the call, and those of [`Self::run`].
    pub(in crate::grpc) async fn run_if<T: Send + 'static>(
        &self,
        is_large: bool,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if is_large { self.run(call).await? } else { call.await }
    }

    /// Runs a call on a worker, as soon as one is free. Dropping the future ends the call.
    ///
    /// # Errors
    /// [`Error::Internal`] where the call panicked.
    pub(in crate::grpc) async fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |cause: Cause| Error::Internal(cause);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| failed(error.into()))?;
        let (deadline, acting, span) = (deadline::current(), Acting::current(), Span::current());
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let runtime = Handle::current();
        let worker = spawn_blocking(move || {
            let call = async move { acting.during(deadline::until(deadline, call)).await };
            let call = span.instrument(call);
            let answer = runtime.block_on(cancelled.run_until_cancelled(call));
            drop(permit);
            answer
        });
        let answer = worker.await.map_err(|panicked| failed(panicked.into()))?;
        answer.ok_or_else(|| failed("a call ended that nobody waits for".into()))
    }
}
