//! `WatchUserDetails`: the stream of a subscription.

mod responses;
mod rights;
mod start;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanKind},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response};

pub(super) use self::responses::Responses;
use self::{
    responses::Sending,
    rights::{Rights, credentials},
};
use super::handler::UserDetails;
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        watch::{SubscriptionFilter, Watch, WatchBudget, WatchStart},
    },
    grpc::{
        call::CallOptions,
        errors,
        layers::{
            observed_call::{Call, CallSlot},
            trace::Begun,
        },
        metrics::Watcher,
        outbox::{Client, Sender, Unsent, Waiting, outbox},
        resume::Tokens,
        streams::Ended,
    },
    proto::WatchUserDetailsRequest,
    telemetry::names,
    trace::{self, Span},
};

/// How long a client may leave the outbox full.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long responses may wait while the budget of all subscriptions is exhausted.
const EXHAUSTED_SEND_TIMEOUT: Duration = Duration::from_secs(1);
impl UserDetails {
    pub(super) async fn watch(
        &self,
        request: Request<WatchUserDetailsRequest>,
    ) -> Result<Response<Responses>, Error> {
        let (metadata, extensions, request) = request.into_parts();
        let slot = extensions.get::<CallSlot>().cloned();
        let (opened, call) = oneshot::channel();
        let context = Begun::context(&extensions).cloned()?;
        let stream = Stream {
            rights: Rights {
                service: Arc::clone(&self.service),
                authentication: Arc::clone(&self.authentication),
                timeout: self.options.deadline,
                metadata: credentials(&metadata),
                extensions,
                acting_username: request.acting_username.clone(),
            },
            options: self.options.clone(),
            call,
        };
        let (responses, ended) = stream.open(&context, request).await?;
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
    rights: Rights,
    options: CallOptions,
    /// Receives the call once the stream is open.
    call: oneshot::Receiver<Call>,
}

impl Stream {
    /// Opens the stream. [`Ended`] reports its end even if the client does not read.
    async fn open(
        mut self,
        context: &CallContext,
        request: WatchUserDetailsRequest,
    ) -> Result<(Responses, Ended), Error> {
        request.user_id.into_iter().for_each(|user_id| context.record.set_user(user_id));
        let service = Arc::clone(&self.rights.service);
        let tokens = Tokens::new(service.store.token_key(context).await?, &request);
        let (from, told) = tokens.position(&request.resume_token)?.unzip();
        let told = told.unwrap_or_else(|| service.clock.now());
        let start = match from {
            Some(position) => WatchStart::Position(position),
            None => start::of(&request)?,
        };
        let entries = start::filter(&request)?;
        let (identity, watched) = self.rights.filter(context, request.user_id).await?;
        let watched = SubscriptionFilter { entries, ..watched };
        let caller = self.rights.caller(&identity);
        let watch = service.store.watch(context, start, watched.clone(), &caller).await?;
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

    /// Adds responses to the outbox until an error ends the stream.
    async fn send(
        &self,
        span: &Span,
        (mut watch, mut told, watched): (Box<dyn Watch>, DateTime<Utc>, SubscriptionFilter),
        (sender, tokens): (&Sender, &Tokens),
        watcher: &Watcher,
    ) -> Error {
        let budget = Arc::clone(watch.budget());
        let clock = &self.rights.service.clock;
        // Both checks run concurrently with reading.
        let refused = self.rights.until_refused(&watched);
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
                        told = clock.now();
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
                        watcher.got(|| clock.now() - told);
                    }
                }
            }
            beat = Instant::now() + self.options.heartbeat;
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
