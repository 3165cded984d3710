//! `WatchUserDetails`: the stream of a subscription.

mod responses;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanKind},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Extensions, Request, Response,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

pub(super) use self::responses::Responses;
use self::responses::Sending;
use super::UserDetails;
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        identity::Identity,
        rules::Visibility,
        scope::Scope,
        service::Service,
        watch::{SubscriptionFilter, Watch, WatchBudget},
    },
    grpc::{
        auth::Authentication,
        call::{Call, CallOptions},
        errors,
        layers::{observe::CallSlot, trace::Begun},
        metered::Watcher,
        outbox::{Client, Sender, Unsent, Waiting, outbox},
        resume::Tokens,
        streams::Ended,
    },
    proto::WatchUserDetailsRequest,
    server::Peer,
    telemetry::names,
    trace::{self, Span},
};

/// How long a client may leave the outbox full.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long responses may wait while the budget of all subscriptions is exhausted.
const EXHAUSTED_SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between checks of the caller's rights. Rights are cached for up to one second, so a
/// revoked right ends the stream within two seconds.
const CHECK_INTERVAL: Duration = Duration::from_millis(700);

/// How long checks of the rights may fail as unavailable: nothing can be read then, either.
const UNCHECKED: Duration = Duration::from_secs(10);

/// The metadata key of the caller's credentials.
const AUTHORIZATION: &str = "authorization";

impl UserDetails {
    pub(super) async fn watch(
        &self,
        request: Request<WatchUserDetailsRequest>,
    ) -> Result<Response<Responses>, Error> {
        let (metadata, extensions, request) = request.into_parts();
        let slot = extensions.get::<CallSlot>().cloned();
        let (opened, filler) = oneshot::channel();
        let (service, authentication) =
            (Arc::clone(&self.service), Arc::clone(&self.authentication));
        let context = Begun::context(&extensions).cloned()?;
        let parts = (metadata, extensions, request);
        let stream = Stream::new(service, authentication, self.options.clone(), parts, filler);
        let (responses, ended) = stream.open(&context).await?;
        if let Some(mut call) = slot.and_then(|slot| slot.take()) {
            call.open();
            // Sending fails only if the task that fills the stream has panicked.
            let _ = opened.send(call);
        }
        let mut response = Response::new(responses);
        response.extensions_mut().insert(ended);
        Ok(response)
    }
}

/// A subscription.
struct Stream {
    service: Arc<Service>,
    authentication: Arc<Authentication>,
    options: CallOptions,
    metadata: MetadataMap,
    extensions: Extensions,
    request: WatchUserDetailsRequest,
    /// Receives the call once the stream is open.
    call: oneshot::Receiver<Call>,
}

impl Stream {
    /// A subscription for a request with its metadata and extensions.
    fn new(
        service: Arc<Service>,
        authentication: Arc<Authentication>,
        options: CallOptions,
        (metadata, extensions, request): (MetadataMap, Extensions, WatchUserDetailsRequest),
        call: oneshot::Receiver<Call>,
    ) -> Self {
        let metadata = credentials(&metadata);
        Self { service, authentication, options, metadata, extensions, request, call }
    }

    /// Opens the stream. [`Ended`] reports its end even if the client does not read.
    async fn open(mut self, context: &CallContext) -> Result<(Responses, Ended), Error> {
        self.request.user_id.into_iter().for_each(|user_id| context.record.set_user(user_id));
        let tokens = Tokens::new(self.service.token_key(context).await?, &self.request);
        let from = tokens.position(&std::mem::take(&mut self.request.resume_token))?;
        let (from, told) = from.unzip();
        let told = told.unwrap_or_else(|| self.service.now());
        let (identity, watched) = self.watched(context, self.request.user_id).await?;
        let caller = self.caller(&identity);
        let watch = self.service.watch(context, from, watched.clone(), &caller).await?;
        let (sender, receiver) = outbox();
        let responses = Sending::new(receiver, watch.budget().share(&caller));
        let watcher = Watcher::new();
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let span = context.span.clone();
        tokio::spawn(async move {
            let _guard = guard;
            let ended = tokio::select! {
                ended = self.send(&span, (watch, told, watched), (&sender, &tokens), &watcher) => Some(ended),
                () = self.options.stop.cancelled() => {
                    Some(Error::Unavailable("the service is stopping".into()))
                }
                client = sender.closed() => match client {
                    Client::Refused => Some(Error::Overloaded),
                    // Dropping the call records it as cancelled.
                    Client::Gone | Client::Listening => None,
                },
            };
            if let (Ok(call), Some(error)) = ((&mut self.call).await, &ended) {
                call.end(Some(error));
            }
            let unsent = match &ended {
                Some(Error::Overloaded) => Unsent::Drop,
                _ => Unsent::Send,
            };
            sender.end(ended.as_ref().map(errors::status), unsent);
        });
        Ok((responses.into_stream(), Ended(ended)))
    }

    /// The key for per-caller limits: the identity's name, or the peer's address if callers need no
    /// identity.
    fn caller(&self, identity: &Identity) -> String {
        match self.extensions.get::<Peer>() {
            Some(peer) if identity.name().is_empty() => format!("address {}", peer.address.ip()),
            _ => format!("identity {}", identity.name()),
        }
    }

    /// The caller and the filter that its current rights allow, for one user if `user_id` is given.
    async fn watched(
        &self,
        context: &CallContext,
        user_id: Option<i64>,
    ) -> Result<(Arc<Identity>, SubscriptionFilter), Error> {
        let watched = async {
            let (headers, extensions) = (self.metadata.as_ref(), &self.extensions);
            let caller = self.authentication.internal_caller(context, headers, extensions).await?;
            let actor = context.actor(&caller, Scope::Read, &self.request.acting_username)?;
            let watched = self.service.watched(context, &actor, user_id).await?;
            Ok((caller, watched))
        };
        timeout(self.options.deadline, watched).await.unwrap_or(Err(Error::DeadlineExceeded))
    }

    /// Adds responses to the outbox until an error ends the stream.
    async fn send(
        &self,
        span: &Span,
        (mut watch, mut told, watched): (Box<dyn Watch>, DateTime<Utc>, SubscriptionFilter),
        (sender, tokens): (&Sender, &Tokens),
        watcher: &Watcher,
    ) -> Error {
        let budget = Arc::clone(watch.budget());
        // Both checks run concurrently with reading.
        let refused = self.until_refused(&watched);
        let overloaded = until_overloaded(sender, &budget);
        tokio::pin!(refused, overloaded);
        let resume_token = tokens.issue(watch.position(), told);
        sender.add(Waiting { change: None, resume_token });
        let mut beat = Instant::now() + self.options.heartbeat;
        // A resumed subscription first catches up on old entries: these do not count as lag.
        let mut was_current = false;
        loop {
            let send_timeout = Instant::now() + SEND_TIMEOUT;
            tokio::select! {
                biased;
                error = &mut refused => return error,
                error = &mut overloaded => return error,
                room = timeout_at(send_timeout, sender.room()) => {
                    if room.is_err() {
                        return Error::Overloaded;
                    }
                }
                // Released entries are read again later.
                () = release_when_exhausted(&budget, &mut *watch) => {}
            }
            was_current |= watch.is_current();
            tokio::select! {
                biased;
                error = &mut refused => return error,
                error = &mut overloaded => return error,
                () = sleep_until(beat) => {
                    if watch.is_current() {
                        told = self.service.now();
                    }
                    let resume_token = tokens.issue(watch.position(), told);
                    sender.add(Waiting { change: None, resume_token });
                }
                change = watch.next() => {
                    let change = match change {
                        Ok(change) => change,
                        Err(error) => return error,
                    };
                    // Later entries are not older, even if the stream is not current.
                    told = change.time;
                    if let Some(cause) = trace::span_in(&change.origin.traceparent) {
                        event(span, &cause);
                    }
                    let resume_token = tokens.issue(watch.position(), told);
                    sender.add(Waiting { change: Some(change), resume_token });
                    if was_current {
                        watcher.got(|| self.service.now() - told);
                    }
                }
            }
            beat = Instant::now() + self.options.heartbeat;
        }
    }

    /// Checks the caller's rights repeatedly, until the caller may no longer watch. Tolerates a
    /// short failure to check.
    async fn until_refused(&self, watched: &SubscriptionFilter) -> Error {
        let mut checked = Instant::now();
        // A caller that sees all users needs no check for a single user.
        let user_id = watched.user_id.filter(|_| watched.visibility != Visibility::All);
        loop {
            sleep(CHECK_INTERVAL).await;
            // Not in the call's context: a span per check would grow the trace without limit.
            match self.watched(&CallContext::default(), user_id).await {
                Ok((_, now)) if now.visibility == watched.visibility => checked = Instant::now(),
                // The client may subscribe again with its new rights.
                Ok(_) => return Error::Unavailable("the caller's rights have changed".into()),
                Err(Error::Unavailable(_) | Error::DeadlineExceeded)
                    if checked.elapsed() < UNCHECKED => {}
                Err(error) => return error,
            }
        }
    }
}

/// Records the span of an event in the subscription's trace, with a link to its cause.
fn event(span: &Span, cause: &SpanContext) {
    if span.is_recording() {
        let name = || "WatchUserDetails event".into();
        let event = span.child_linked(SpanKind::Internal, name, cause.clone());
        let method = KeyValue::new(names::RPC_METHOD, METHOD);
        event.set_attributes(|| [KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"), method]);
        event.end();
    }
}

/// A copy of the caller's credentials. The other metadata would take memory as long as the stream
/// lasts, and so would the original value: it shares the memory of all headers.
fn credentials(metadata: &MetadataMap) -> MetadataMap {
    let copy = |value: &MetadataValue<Ascii>| value.as_bytes().try_into().ok();
    let mut credentials = MetadataMap::new();
    if let Some(value) = metadata.get(AUTHORIZATION).and_then(copy) {
        credentials.insert(AUTHORIZATION, value);
    }
    credentials
}

/// Waits until the budget of all subscriptions is exhausted and this client takes no response.
async fn until_overloaded(sender: &Sender, budget: &WatchBudget) -> Error {
    loop {
        budget.exhausted().await;
        let stalled = timeout(EXHAUSTED_SEND_TIMEOUT, sender.stalled(EXHAUSTED_SEND_TIMEOUT));
        if stalled.await.is_ok() && budget.is_exhausted() {
            return Error::Overloaded;
        }
    }
}

/// Releases the entries of `watch` once the budget is exhausted, then waits forever.
async fn release_when_exhausted(budget: &WatchBudget, watch: &mut dyn Watch) {
    budget.exhausted().await;
    watch.release();
    std::future::pending::<()>().await;
}

/// The full name of the method.
const METHOD: &str = "m4.userdetails.v1.UserDetailsService/WatchUserDetails";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_retains_only_its_credentials() {
        let mut metadata = MetadataMap::new();
        metadata.insert("x-large", "x".repeat(8000).parse().unwrap());
        assert!(credentials(&metadata).is_empty());
        metadata.insert(AUTHORIZATION, "Bearer token".parse().unwrap());
        metadata.insert_bin("x-large-bin", MetadataValue::from_bytes(&[0; 8000]));
        let credentials = credentials(&metadata);
        assert_eq!(credentials.len(), 1);
        let copy = credentials.get(AUTHORIZATION).unwrap();
        assert_eq!(copy, "Bearer token");
        let original = metadata.get(AUTHORIZATION).unwrap();
        assert_ne!(copy.as_encoded_bytes().as_ptr(), original.as_encoded_bytes().as_ptr());
    }
}
