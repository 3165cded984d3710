//! `UserDetailsService`: convert, call, convert.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::stream::{Stream, poll_fn};
use prost::Message;
use tokio::sync::oneshot;
use tonic::{Extensions, Request, Response, Status, metadata::MetadataValue};

use super::{
    auth::{Authentication, Caller},
    call::{self, CallOptions},
    convert, errors, listing, metered, watch,
};
use crate::{
    credentials::UPON_ITSELF,
    domain::{
        account::Username,
        acting::Acting,
        error::{Error, Refusal},
        identity::{FieldSet, Identity, Permission},
        listing::Position,
        service::Service,
        update::{Actor, Door, Origin, Update, Updated},
    },
    listen::Peer,
    proto::{
        BatchUpdateUserDetailsRequest, BatchUpdateUserDetailsResponse, GetUserDetailsRequest,
        GetUserDetailsResponse, ListUserDetailsChangesRequest, ListUserDetailsChangesResponse,
        ListUserDetailsRequest, ListUserDetailsResponse, RevertUserDetailsChangeRequest,
        RevertUserDetailsChangeResponse, UpdateUserDetailsRequest, UpdateUserDetailsResponse,
        UpdateUserDetailsResult, UserDetails as Details, WatchUserDetailsRequest,
        WatchUserDetailsResponse, update_user_details_result::Result as UpdateResult,
        user_details_service_server::UserDetailsService,
    },
    trace::Span,
};

/// How many updates a batch has at most.
const LARGEST_BATCH: usize = 1000;

/// The service.
pub(super) struct UserDetails {
    pub(super) service: Arc<Service>,
    pub(super) authentication: Arc<Authentication>,
    pub(super) options: CallOptions,
}

#[tonic::async_trait]
impl UserDetailsService for UserDetails {
    async fn get_user_details(
        &self,
        request: Request<GetUserDetailsRequest>,
    ) -> Result<Response<GetUserDetailsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions).await?;
            let actor = caller.actor(Permission::Read, &request.acting_username)?;
            let user = self.service.read(&actor, request.user_id).await?;
            Ok(GetUserDetailsResponse { user_details: Some(convert::user_details(user)) })
        };
        let method = "m4.userdetails.v1.UserDetailsService/GetUserDetails";
        call::run(method, &metadata, self.options.deadline, Box::pin(call)).await
    }

    async fn update_user_details(
        &self,
        request: Request<UpdateUserDetailsRequest>,
    ) -> Result<Response<UpdateUserDetailsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let upon_itself = AtomicBool::new(false);
        let call = async {
            let caller = self.authentication.caller(&metadata, &extensions).await?;
            let (actor, allowed, origin) = match caller {
                Caller::Internal(caller) => {
                    let actor = caller.actor(Permission::Update, &request.acting_username)?;
                    (actor, caller.fields(), origin(&caller, &extensions))
                }
                Caller::Legacy(credentials) => {
                    let authenticated = self.service.authenticate(&credentials, request.user_id);
                    authenticated.await.inspect_err(metered::hash_failed)?;
                    let actor = Actor::Account(Username::parse(&credentials.username));
                    let address = credentials.address;
                    (actor, None, Origin { address, ..Origin::of(Door::Legacy) })
                }
            };
            let door = origin.door;
            let update = update(request, (actor, allowed), origin)?;
            let updated = self.service.update(update).await.inspect_err(|error| {
                let itself = matches!(error, Error::ActorRefused(Refusal::Itself));
                upon_itself.store(itself && door == Door::Legacy, Ordering::Relaxed);
            });
            Ok(answer(updated?))
        };
        let method = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";
        let answer = call::run(method, &metadata, self.options.deadline, Box::pin(call)).await;
        answer.map_err(|mut status| {
            if upon_itself.into_inner() {
                status.metadata_mut().insert(UPON_ITSELF, MetadataValue::from_static("1"));
            }
            status
        })
    }

    async fn batch_update_user_details(
        &self,
        request: Request<BatchUpdateUserDetailsRequest>,
    ) -> Result<Response<BatchUpdateUserDetailsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions).await?;
            let acting_username = request.acting_username;
            let actor = caller.actor(Permission::Update, &acting_username)?;
            let origin = origin(&caller, &extensions);
            if !(1..=LARGEST_BATCH).contains(&request.requests.len()) {
                let problem = format!("must be 1 to {LARGEST_BATCH} updates");
                return Err(Error::InvalidRequest { field: "requests", problem });
            }
            let updates = request.requests.into_iter().enumerate().map(|(index, one)| {
                let other =
                    !one.acting_username.is_empty() && one.acting_username != acting_username;
                let one = if other {
                    let problem = "must be empty, or that of the batch".to_owned();
                    Err(Error::InvalidRequest { field: "acting_username", problem })
                } else {
                    update(one, (actor.clone(), caller.fields()), origin.clone())
                };
                one.map_err(|error| (index, error))
            });
            let results = if request.allow_partial {
                let (mut good, mut refused) = (Vec::new(), Vec::new());
                for update in updates {
                    match update {
                        Ok(update) => good.push(update),
                        Err(error) => refused.push(error),
                    }
                }
                let mut stored = self.service.update_each(good).await.into_iter();
                let mut results = Vec::new();
                let mut refused = refused.into_iter().peekable();
                while let Some(outcome) = refused
                    .next_if(|(index, _)| *index == results.len())
                    .map(|(_, error)| Err(error))
                    .or_else(|| stored.next())
                {
                    results.push(result(outcome));
                }
                results
            } else {
                let in_batch = |(index, error)| Error::InBatch { index, error: Box::new(error) };
                let updates =
                    updates.map(|update| update.map_err(in_batch)).collect::<Result<_, _>>()?;
                let stored = self.service.update_all(updates).await?;
                stored.into_iter().map(|updated| result(Ok(updated))).collect()
            };
            Ok(within(BatchUpdateUserDetailsResponse { results }, self.options.largest_message))
        };
        let method = "m4.userdetails.v1.UserDetailsService/BatchUpdateUserDetails";
        call::run(method, &metadata, self.options.deadline, Box::pin(call)).await
    }

    async fn list_user_details(
        &self,
        request: Request<ListUserDetailsRequest>,
    ) -> Result<Response<ListUserDetailsResponse>, Status> {
        let (metadata, extensions, mut request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions).await?;
            let actor = caller.actor(Permission::Read, &request.acting_username)?;
            let mask = convert::read_mask(request.read_mask.as_ref())?;
            let paged = listing::users(std::mem::take(&mut request))?;
            let users = self.service.list(&actor, &paged.query).await?;
            let key = paged.query.order.key;
            let place = |user: &_| Position::of(user, key);
            let convert = |user| convert::masked_details(user, &mask);
            let (user_details, next_page_token) =
                paged.page(users, self.options.largest_message, place, convert);
            Ok(ListUserDetailsResponse { user_details, next_page_token })
        };
        let method = "m4.userdetails.v1.UserDetailsService/ListUserDetails";
        call::run(method, &metadata, self.options.deadline, Box::pin(call)).await
    }

    async fn list_user_details_changes(
        &self,
        request: Request<ListUserDetailsChangesRequest>,
    ) -> Result<Response<ListUserDetailsChangesResponse>, Status> {
        let (metadata, extensions, mut request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions).await?;
            let actor = caller.actor(Permission::Read, &request.acting_username)?;
            let paged = listing::changes(std::mem::take(&mut request))?;
            let changes = self.service.list_changes(&actor, &paged.query).await?;
            let (changes, next_page_token) = paged.page(
                changes,
                self.options.largest_message,
                listing::position,
                listing::change,
            );
            Ok(ListUserDetailsChangesResponse { changes, next_page_token })
        };
        let method = "m4.userdetails.v1.UserDetailsService/ListUserDetailsChanges";
        call::run(method, &metadata, self.options.deadline, Box::pin(call)).await
    }

    type WatchUserDetailsStream =
        Pin<Box<dyn Stream<Item = Result<WatchUserDetailsResponse, Status>> + Send>>;

    async fn watch_user_details(
        &self,
        request: Request<WatchUserDetailsRequest>,
    ) -> Result<Response<Self::WatchUserDetailsStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let (opened, filler) = oneshot::channel();
        let call = async {
            let parts = (metadata.clone(), extensions.clone(), request);
            let (service, authentication) =
                (Arc::clone(&self.service), Arc::clone(&self.authentication));
            let options = self.options.clone();
            let stream = watch::Stream::new(service, authentication, options, parts, filler);
            let mut responses = stream.open().await?;
            let responses = poll_fn(move |context| responses.poll_recv(context));
            Ok(Box::pin(responses) as Self::WatchUserDetailsStream)
        };
        call::open(watch::METHOD, &metadata, self.options.deadline, Box::pin(call), opened).await
    }

    async fn revert_user_details_change(
        &self,
        request: Request<RevertUserDetailsChangeRequest>,
    ) -> Result<Response<RevertUserDetailsChangeResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions).await?;
            let actor = caller.actor(Permission::Update, &request.acting_username)?;
            let reason = convert::reason(request.reason)?;
            let traceparent = Span::current().traceparent();
            let origin = Origin { reason, traceparent, ..origin(&caller, &extensions) };
            let etag = Some(request.etag).filter(|etag| !etag.is_empty());
            let (change_id, validate_only) = (request.change_id, request.validate_only);
            let reverted =
                self.service.revert(actor, caller.fields(), origin, change_id, etag, validate_only);
            let Updated { user, changes } = reverted.await?;
            Ok(RevertUserDetailsChangeResponse {
                user_details: Some(convert::user_details(user)),
                changed_fields: Some(convert::paths(&changes)),
                previous_details: Some(convert::values(changes, |change| change.old)),
            })
        };
        let method = "m4.userdetails.v1.UserDetailsService/RevertUserDetailsChange";
        call::run(method, &metadata, self.options.deadline, Box::pin(call)).await
    }
}

/// Whence a call of the typed API comes: its caller, and the address of that; empty where it is in this process.
fn origin(caller: &Identity, extensions: &Extensions) -> Origin {
    let peer = extensions.get::<Peer>().map(|peer| peer.address);
    let address = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
    Origin { address, identity: caller.name().to_owned(), ..Origin::of(Door::Grpc) }
}

/// The update that a request asks for, of an actor that may change some fields, or all.
pub(super) fn update(
    mut request: UpdateUserDetailsRequest,
    (actor, allowed): (Actor, Option<FieldSet>),
    origin: Origin,
) -> Result<Update, Error> {
    let key = convert::request_key(&mut request, &actor)?;
    let origin = Origin {
        reason: convert::reason(request.reason)?,
        request_id: key.as_ref().map(|key| key.id.clone()).unwrap_or_default(),
        traceparent: Span::current().traceparent(),
        ..origin
    };
    let details = request.user_details.unwrap_or_default();
    let etag = Some(details.etag.clone()).filter(|etag| !etag.is_empty());
    Ok(Update {
        actor,
        allowed,
        origin,
        user_id: request.user_id,
        edits: convert::edits(details, request.update_mask.as_ref())?,
        etag,
        request: key,
        unchanged: Vec::new(),
        validate_only: request.validate_only,
        acting: Acting::current(),
    })
}

/// The answer of an update.
pub(super) fn answer(Updated { user, changes }: Updated) -> UpdateUserDetailsResponse {
    UpdateUserDetailsResponse {
        user_details: Some(convert::user_details(user)),
        changed_fields: Some(convert::paths(&changes)),
        previous_details: Some(convert::values(changes, |change| change.old)),
    }
}

/// The answer of a batch, without old values, and then without the details, where it would be too large: what was stored must
/// not be answered by an error.
fn within(
    mut answer: BatchUpdateUserDetailsResponse,
    largest: usize,
) -> BatchUpdateUserDetailsResponse {
    let without: [fn(&mut UpdateUserDetailsResponse); 2] = [
        |one| one.previous_details = None,
        |one| {
            let etag = one.user_details.take().unwrap_or_default().etag;
            one.user_details = Some(Details { etag, ..Details::default() });
        },
    ];
    for less in without {
        if answer.encoded_len() <= largest {
            break;
        }
        for result in &mut answer.results {
            if let Some(UpdateResult::Response(one)) = &mut result.result {
                less(one);
            }
        }
    }
    answer
}

/// A result of a batch.
fn result(outcome: Result<Updated, Error>) -> UpdateUserDetailsResult {
    let result = match outcome {
        Ok(updated) => UpdateResult::Response(answer(updated)),
        Err(error) => UpdateResult::Error(errors::item(&error)),
    };
    UpdateUserDetailsResult { result: Some(result) }
}
