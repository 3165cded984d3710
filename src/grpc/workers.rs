//! Workers for large calls: decoding megabytes on an async thread would delay other calls.

use std::{sync::Arc, thread::available_parallelism};

use http::Extensions;
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::error::{Cause, Error},
    trace::Span,
};

/// Maximum large calls at once, for any number of processors: a call may take several times the
/// size of its message.
pub(crate) const MAX_LARGE_CALLS: usize = 4;
pub(crate) const MIN_LARGE_CALLS: usize = 2;

/// Marks a request that already runs on a worker. Waiting there for another worker could deadlock.
#[derive(Clone, Copy, Debug)]
pub(in crate::grpc) struct OnWorker;

impl OnWorker {
    /// Whether a request is marked.
    pub(in crate::grpc) fn is_in(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some()
    }
}

/// Runs large calls on blocking threads, a bounded number at a time.
#[derive(Debug)]
pub(in crate::grpc) struct Workers {
    permits: Arc<Semaphore>,
}

impl Workers {
    /// One worker per processor, within the bounds.
    pub(in crate::grpc) fn new() -> Arc<Self> {
        let processors = available_parallelism().map_or(MIN_LARGE_CALLS, usize::from);
        let workers = processors.clamp(MIN_LARGE_CALLS, MAX_LARGE_CALLS);
        Arc::new(Self { permits: Arc::new(Semaphore::new(workers)) })
    }

    /// Runs part of a call, on a worker if `is_large`.
    ///
    /// # Errors
    /// The errors of the call and of [`Self::run`].
    pub(in crate::grpc) async fn run_if<T: Send + 'static>(
        &self,
        span: &Span,
        is_large: bool,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        if is_large { self.run(span, call).await? } else { call.await }
    }

    /// Runs a call on a worker and in its span, as soon as a worker is free. Dropping the future
    /// cancels the call.
    ///
    /// # Errors
    /// [`Error::Internal`] if the call panicked.
    pub(in crate::grpc) async fn run<T: Send + 'static>(
        &self,
        span: &Span,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = |cause: Cause| Error::Internal(cause);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| failed(error.into()))?;
        let call = span.instrument(call);
        let cancelled = CancellationToken::new();
        let _guard = cancelled.clone().drop_guard();
        let runtime = Handle::current();
        let worker = spawn_blocking(move || {
            let answer = runtime.block_on(cancelled.run_until_cancelled(call));
            drop(permit);
            answer
        });
        let answer = worker.await.map_err(|panicked| failed(panicked.into()))?;
        answer.ok_or_else(|| failed("the call was cancelled".into()))
    }
}
