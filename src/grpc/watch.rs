//! `WatchUserDetails`: the stream of one who watches.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use opentelemetry::{
    KeyValue,
    trace::{SpanContext, SpanKind},
};
use prost::Message;
use sha1::{Digest, Sha1};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tonic::{Extensions, Status, metadata::MetadataMap};

use super::{
    auth::Authentication,
    call::{Call, CallOptions},
    errors, listing,
    metered::Watcher,
};
use crate::{
    domain::{
        error::Error,
        identity::Permission,
        listing::LoggedChange,
        rules::Scope,
        service::Service,
        watch::{Position, Watch, Watched},
    },
    proto::{WatchUserDetailsRequest, WatchUserDetailsResponse},
    telemetry::names,
    trace::{self, Span},
};

/// How many responses wait for the client.
const QUEUE: usize = 16;
/// How many gaps a token may tell: more than one of a single server ever does.
const GAPS: usize = 50_000;
/// How long a client may leave them waiting.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the caller's rights are checked again. What they hang on was read up to a second before: one that is withdrawn is
/// gone within two seconds.
const CHECK_INTERVAL: Duration = Duration::from_millis(700);

/// How long the caller's rights may be impossible to check: nothing can be read then, either.
const UNCHECKED: Duration = Duration::from_secs(10);

/// What a resume token holds; opaque to callers.
#[derive(Clone, PartialEq, Eq, Message)]
struct Token {
    /// Of the request without its token: a token goes with its own request only.
    #[prost(bytes = "vec", tag = "1")]
    request: Vec<u8>,
    #[prost(int64, tag = "2")]
    seen: i64,
    /// First and last ids by turns.
    #[prost(int64, repeated, tag = "3")]
    missing: Vec<i64>,
    /// A time, in seconds since 1970: what is behind the position was stored later.
    #[prost(int64, tag = "4")]
    told: i64,
}

/// One who watches.
pub(super) struct Stream {
    service: Arc<Service>,
    authentication: Arc<Authentication>,
    options: CallOptions,
    metadata: MetadataMap,
    extensions: Extensions,
    request: WatchUserDetailsRequest,
    /// What its tokens are bound to.
    bound: Vec<u8>,
    span: Span,
    /// Gives the call, once the stream is open.
    call: oneshot::Receiver<Call>,
}

/// What a stream sends.
pub(super) type Responses = mpsc::Receiver<Result<WatchUserDetailsResponse, Status>>;

impl Stream {
    /// One who sent a request with this metadata.
    pub(super) fn new(
        service: Arc<Service>,
        authentication: Arc<Authentication>,
        options: CallOptions,
        (metadata, extensions, request): (MetadataMap, Extensions, WatchUserDetailsRequest),
        call: oneshot::Receiver<Call>,
    ) -> Self {
        let unbound = WatchUserDetailsRequest { resume_token: String::new(), ..request.clone() };
        let bound = Sha1::digest(unbound.encode_to_vec())[..8].to_vec();
        let span = Span::current();
        Self { service, authentication, options, metadata, extensions, request, bound, span, call }
    }

    /// Opens the stream.
    pub(super) async fn open(mut self) -> Result<Responses, Error> {
        let from = self.from()?;
        let told = from.as_ref().map_or_else(|| self.service.now(), |(_, told)| *told);
        let watched = self.watched(self.request.user_id).await?;
        let watch = self.service.watch(from, watched.clone()).await?;
        let (sender, responses) = mpsc::channel(QUEUE);
        let watcher = Watcher::new();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = self.send(watch, told, watched, &sender, &watcher) => ended,
                () = self.options.stop.cancelled() => {
                    Some(Error::Unavailable("the service is stopping".into()))
                }
                () = sender.closed() => None,
            };
            // One whose caller has gone is dropped.
            if let (Ok(call), Some(error)) = ((&mut self.call).await, &ended) {
                call.end(Some(error));
            }
            if let Some(error) = ended {
                // One who does not take it has gone, or does not listen.
                let _ = timeout(PATIENCE, sender.send(Err(errors::status(&error)))).await;
            }
        });
        Ok(responses)
    }

    /// What the caller may watch, as of now: of one user, if that is given.
    async fn watched(&self, user_id: Option<i64>) -> Result<Watched, Error> {
        let watched = async {
            let (metadata, extensions) = (&self.metadata, &self.extensions);
            let caller = self.authentication.internal_caller(metadata, extensions).await?;
            let actor = caller.actor(Permission::Read, &self.request.acting_username)?;
            self.service.watched(&actor, user_id).await
        };
        timeout(self.options.deadline, watched).await.unwrap_or(Err(Error::DeadlineExceeded))
    }

    /// Sends until the client does not listen, or something fails.
    async fn send(
        &self,
        mut watch: Box<dyn Watch>,
        mut told: DateTime<Utc>,
        watched: Watched,
        sender: &mpsc::Sender<Result<WatchUserDetailsResponse, Status>>,
        watcher: &Watcher,
    ) -> Option<Error> {
        let response = |change: Option<&LoggedChange>, position: &Position, told| {
            let cause = change.and_then(|change| trace::span_in(&change.origin.traceparent));
            let told_of = change.map(|change| (change.time, cause));
            let change = change.cloned().map(listing::change);
            (WatchUserDetailsResponse { change, resume_token: self.token(position, told) }, told_of)
        };
        // Goes on beside what is read: neither holds the other up.
        let refused = self.until_refused(&watched);
        tokio::pin!(refused);
        let mut beat = Instant::now() + self.options.heartbeat;
        let mut patience = Instant::now() + PATIENCE;
        let mut waiting = VecDeque::from([response(None, watch.position(), told)]);
        // One that comes back may have old entries to get first: it is not late for that.
        let mut was_current = false;
        loop {
            let idle = waiting.is_empty();
            was_current |= idle && watch.is_current();
            tokio::select! {
                biased;
                error = &mut refused => return Some(error),
                room = timeout_at(patience, sender.reserve()), if !idle => {
                    let room = match room {
                        Ok(Ok(room)) => room,
                        Ok(Err(_)) => return None,
                        // One that does not listen is let go.
                        Err(_) => return Some(Error::Overloaded),
                    };
                    if let Some((response, told_of)) = waiting.pop_front() {
                        if let Some((_, Some(cause))) = &told_of {
                            self.event(cause);
                        }
                        room.send(Ok(response));
                        if let (Some((time, _)), true) = (told_of, was_current) {
                            watcher.got(|| self.service.now() - time);
                        }
                    }
                    patience = Instant::now() + PATIENCE;
                    beat = Instant::now() + self.options.heartbeat;
                }
                () = sleep_until(beat), if idle => {
                    if watch.is_current() {
                        told = self.service.now();
                    }
                    waiting.push_back(response(None, watch.position(), told));
                    patience = Instant::now() + PATIENCE;
                }
                portion = watch.next(), if idle => match portion {
                    Ok(portion) => {
                        // What is behind it is not older, wherever the stream is.
                        let changes = portion.iter();
                        let changes =
                            changes.map(|(change, behind)| response(Some(change), behind, change.time));
                        waiting.extend(changes);
                        told = portion.last().map_or(told, |(change, _)| change.time);
                        patience = Instant::now() + PATIENCE;
                    }
                    Err(error) => return Some(error),
                },
            }
        }
    }

    /// Checks the caller's rights again and again, until it may not watch this any more. What cannot be checked for a while is
    /// no refusal.
    async fn until_refused(&self, watched: &Watched) -> Error {
        let mut checked = Instant::now();
        // Who may see all may see this one.
        let user_id = watched.user_id.filter(|_| watched.scope != Scope::All);
        loop {
            sleep(CHECK_INTERVAL).await;
            match self.watched(user_id).await {
                Ok(now) if now.scope == watched.scope => checked = Instant::now(),
                // It may come back, for what it may see now.
                Ok(_) => return Error::Unavailable("the caller's rights have changed".into()),
                Err(Error::Unavailable(_) | Error::DeadlineExceeded)
                    if checked.elapsed() < UNCHECKED => {}
                Err(error) => return error,
            }
        }
    }

    /// A span for an event that is handed on, in the trace of the watch, with a link to what caused it.
    fn event(&self, cause: &SpanContext) {
        if self.span.is_kept() {
            let name = || "WatchUserDetails event".into();
            let event = self.span.below_linked(SpanKind::Internal, name, cause.clone());
            let method = KeyValue::new(names::RPC_METHOD, METHOD);
            event.tell(|| [KeyValue::new(names::RPC_SYSTEM_NAME, "grpc"), method]);
            event.end();
        }
    }

    fn token(&self, position: &Position, told: DateTime<Utc>) -> String {
        let token = Token {
            request: self.bound.clone(),
            seen: position.seen(),
            missing: position.missing().iter().flat_map(|(first, last)| [*first, *last]).collect(),
            told: told.timestamp(),
        };
        URL_SAFE_NO_PAD.encode(token.encode_to_vec())
    }

    /// Where the request says that the stream begins, and when it was told so.
    fn from(&self) -> Result<Option<(Position, DateTime<Utc>)>, Error> {
        let token = &self.request.resume_token;
        if token.is_empty() {
            return Ok(None);
        }
        let invalid = |problem: &str| Error::InvalidRequest {
            field: "resume_token",
            problem: problem.to_owned(),
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let token = bytes.and_then(|bytes| Token::decode(&*bytes).ok());
        let position = token.as_ref().and_then(|token| {
            let (pairs, rest) = token.missing.as_chunks::<2>();
            let missing = pairs.iter().map(|[first, last]| (*first, *last)).collect();
            Position::new(token.seen, missing)
                .filter(|position| rest.is_empty() && position.missing().len() <= GAPS)
        });
        let told = token.as_ref().and_then(|token| DateTime::from_timestamp(token.told, 0));
        let (Some(token), Some(position), Some(told)) = (token, position, told) else {
            return Err(invalid("is none that was given"));
        };
        if token.request != self.bound {
            return Err(invalid("is of another request: only resume_token may differ"));
        }
        Ok(Some((position, told)))
    }
}

/// The full name of the method.
pub(super) const METHOD: &str = "m4.userdetails.v1.UserDetailsService/WatchUserDetails";
