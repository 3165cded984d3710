//! `UserDetailsService`: convert, call, convert.

use std::sync::Arc;

use tokio::sync::oneshot;
use tonic::{Extensions, Request, Response, Status, metadata::MetadataValue};

use super::{
    auth::{Authentication, Caller},
    call::{CallOptions, respond},
    convert, errors,
    layers::{Workers, observe::CallSlot, trace::Begun, workers::OnWorker},
    listing, metered, watch,
};
use crate::{
    credentials::UPON_ITSELF,
    domain::{
        account::Username,
        call_context::CallContext,
        error::{Error, Refusal},
        identity::{FieldSet, Identity, Scope},
        listing::{ChangeQuery, Cursor, UserQuery},
        service::Service,
        update::{Actor, EntryPoint, Origin, Revert, Update, Updated},
    },
    proto::{
        BatchUpdateUserDetailsRequest, BatchUpdateUserDetailsResponse, GetUserDetailsRequest,
        GetUserDetailsResponse, ListUserDetailsChangesRequest, ListUserDetailsChangesResponse,
        ListUserDetailsRequest, ListUserDetailsResponse, RevertUserDetailsChangeRequest,
        RevertUserDetailsChangeResponse, UpdateUserDetailsRequest, UpdateUserDetailsResponse,
        WatchUserDetailsRequest, user_details_service_server::UserDetailsService,
    },
    server::Peer,
};

/// The handlers of `UserDetailsService`.
pub(super) struct UserDetails {
    pub(super) service: Arc<Service>,
    pub(super) authentication: Arc<Authentication>,
    pub(super) options: CallOptions,
    pub(super) workers: Arc<Workers>,
}

/// Handles a unary call: splits the request, calls `$call`, and builds the response.
macro_rules! unary {
    ($self:ident.$call:ident($request:ident)) => {{
        let (metadata, extensions, request) = $request.into_parts();
        let answer = $self.$call(&extensions, request).await.map_err(errors::to_status)?;
        Ok(respond(&metadata, answer))
    }};
}

#[tonic::async_trait]
impl UserDetailsService for UserDetails {
    async fn get_user_details(
        &self,
        request: Request<GetUserDetailsRequest>,
    ) -> Result<Response<GetUserDetailsResponse>, Status> {
        unary!(self.get(request))
    }

    async fn update_user_details(
        &self,
        request: Request<UpdateUserDetailsRequest>,
    ) -> Result<Response<UpdateUserDetailsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let answer = self.update(&extensions, request).await.map_err(|error| {
            let itself = matches!(error, Error::ActorRefused(Refusal::Itself));
            let is_legacy = matches!(extensions.get(), Some(Caller::Legacy(_)));
            let mut status = errors::to_status(error);
            if itself && is_legacy {
                status.metadata_mut().insert(UPON_ITSELF, MetadataValue::from_static("1"));
            }
            status
        })?;
        Ok(respond(&metadata, answer))
    }

    async fn batch_update_user_details(
        &self,
        request: Request<BatchUpdateUserDetailsRequest>,
    ) -> Result<Response<BatchUpdateUserDetailsResponse>, Status> {
        unary!(self.batch_update(request))
    }

    async fn list_user_details(
        &self,
        request: Request<ListUserDetailsRequest>,
    ) -> Result<Response<ListUserDetailsResponse>, Status> {
        unary!(self.list(request))
    }

    async fn list_user_details_changes(
        &self,
        request: Request<ListUserDetailsChangesRequest>,
    ) -> Result<Response<ListUserDetailsChangesResponse>, Status> {
        unary!(self.list_changes(request))
    }

    type WatchUserDetailsStream = watch::Responses;

    async fn watch_user_details(
        &self,
        request: Request<WatchUserDetailsRequest>,
    ) -> Result<Response<Self::WatchUserDetailsStream>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let slot = extensions.get::<CallSlot>().cloned();
        let (opened, filler) = oneshot::channel();
        let (service, authentication) =
            (Arc::clone(&self.service), Arc::clone(&self.authentication));
        let context = Begun::context(&extensions).cloned().map_err(errors::to_status)?;
        let parts = (metadata, extensions, request);
        let stream =
            watch::Stream::new(service, authentication, self.options.clone(), parts, filler);
        let (responses, ended) = stream.open(&context).await.map_err(errors::to_status)?;
        if let Some(mut call) = slot.and_then(|slot| slot.take()) {
            call.open();
            // Sending fails only if the task that fills the stream has panicked.
            let _ = opened.send(call);
        }
        let mut response = Response::new(responses);
        response.extensions_mut().insert(ended);
        Ok(response)
    }

    async fn revert_user_details_change(
        &self,
        request: Request<RevertUserDetailsChangeRequest>,
    ) -> Result<Response<RevertUserDetailsChangeResponse>, Status> {
        unary!(self.revert(request))
    }
}

impl UserDetails {
    async fn get(
        &self,
        extensions: &Extensions,
        request: GetUserDetailsRequest,
    ) -> Result<GetUserDetailsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Read, &request.acting_username)?;
        given_user_id(request.user_id)?;
        call.record.set_user(request.user_id);
        let user = self.service.read(call, &actor, request.user_id).await?;
        Ok(GetUserDetailsResponse { user_details: Some(convert::user_details(user)) })
    }

    async fn update(
        &self,
        extensions: &Extensions,
        request: UpdateUserDetailsRequest,
    ) -> Result<UpdateUserDetailsResponse, Error> {
        let call = Begun::context(extensions)?;
        call.record.set_user(request.user_id);
        let (actor, allowed, origin) = match Caller::of(extensions)? {
            Caller::Internal(caller) => {
                let actor = call.actor(caller, Scope::Update, &request.acting_username)?;
                (actor, caller.fields(), origin(caller, extensions))
            }
            Caller::Legacy(credentials) => {
                if !credentials.are_for(request.user_id) {
                    metered::hash_failed(&Error::IncorrectHash);
                    return Err(Error::IncorrectHash);
                }
                let actor = Actor::Account(Username::parse(&credentials.username));
                let address = credentials.address.clone();
                (actor, None, Origin { address, ..Origin::of(EntryPoint::Legacy) })
            }
        };
        let update = update(call, request, (actor, allowed), origin)?;
        Ok(answer(self.service.update(call, update).await?))
    }

    async fn list(
        &self,
        extensions: &Extensions,
        request: ListUserDetailsRequest,
    ) -> Result<ListUserDetailsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Read, &request.acting_username)?;
        let mask = convert::read_mask(request.read_mask.as_ref())?;
        let paged = listing::users(request, self.service.token_key(call).await?)?;
        let (is_large, limit) = (paged.is_large(), self.options.largest_message);
        let (service, query) = (Arc::clone(&self.service), paged.query.clone());
        let context = call.clone();
        let read = move |max_bytes| {
            let (service, context, actor) = (Arc::clone(&service), context.clone(), actor.clone());
            let query = UserQuery { max_bytes, ..query.clone() };
            async move { service.list(&context, &actor, &query).await }
        };
        let convert = move |users| {
            let key = paged.query.order.key;
            let place = |user: &_| Cursor::of(user, key);
            let convert = |user| convert::masked_details(user, &mask);
            let (user_details, next_page_token) = paged.page(users, limit, place, convert);
            ListUserDetailsResponse { user_details, next_page_token }
        };
        let workers = self.workers_for(extensions).map(|workers| (workers, &call.span));
        listing::read_page(workers, is_large, limit, read, convert).await
    }

    /// The workers for a part of a call; `None` if the call runs on a worker.
    fn workers_for(&self, extensions: &Extensions) -> Option<&Workers> {
        (!OnWorker::is_in(extensions)).then_some(&*self.workers)
    }

    async fn list_changes(
        &self,
        extensions: &Extensions,
        request: ListUserDetailsChangesRequest,
    ) -> Result<ListUserDetailsChangesResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Read, &request.acting_username)?;
        request.user_id.into_iter().for_each(|user_id| call.record.set_user(user_id));
        let paged = listing::changes(request, self.service.token_key(call).await?)?;
        let (is_large, limit) = (paged.is_large(), self.options.largest_message);
        let (service, query) = (Arc::clone(&self.service), paged.query.clone());
        let context = call.clone();
        let read = move |max_bytes| {
            let (service, context, actor) = (Arc::clone(&service), context.clone(), actor.clone());
            let query = ChangeQuery { max_bytes, ..query.clone() };
            async move { service.list_changes(&context, &actor, &query).await }
        };
        let convert = move |changes| {
            let (place, convert) = (listing::position, listing::change);
            let (changes, next_page_token) = paged.page(changes, limit, place, convert);
            ListUserDetailsChangesResponse { changes, next_page_token }
        };
        let workers = self.workers_for(extensions).map(|workers| (workers, &call.span));
        listing::read_page(workers, is_large, limit, read, convert).await
    }

    async fn revert(
        &self,
        extensions: &Extensions,
        request: RevertUserDetailsChangeRequest,
    ) -> Result<RevertUserDetailsChangeResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Update, &request.acting_username)?;
        let reason = convert::reason(request.reason)?;
        let traceparent = call.span.traceparent();
        let origin = Origin { reason, traceparent, ..origin(&caller, extensions) };
        let revert = Revert {
            actor,
            allowed: caller.fields(),
            origin,
            change_id: request.change_id,
            etag: Some(request.etag).filter(|etag| !etag.is_empty()),
            validate_only: request.validate_only,
        };
        let Updated { user, changes } = self.service.revert(call, revert).await?;
        Ok(RevertUserDetailsChangeResponse {
            user_details: Some(convert::user_details(user)),
            changed_fields: Some(convert::paths(&changes)),
            previous_details: Some(convert::values(changes, |change| change.old)),
        })
    }
}

/// The origin of a typed API call. The address is empty for callers in this process.
pub(super) fn origin(caller: &Identity, extensions: &Extensions) -> Origin {
    let peer = extensions.get::<Peer>().map(|peer| peer.address);
    let address = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
    Origin { address, identity: caller.name().to_owned(), ..Origin::of(EntryPoint::Grpc) }
}

/// Refuses a request without a user id: proto3 cannot tell 0 from absent.
fn given_user_id(user_id: i64) -> Result<(), Error> {
    if user_id == 0 {
        return Err(Error::InvalidRequest {
            field: "user_id",
            problem: "must be given".to_owned(),
        });
    }
    Ok(())
}

/// Converts a request to an update. The actor may change the `allowed` fields; `None` is all.
pub(super) fn update(
    call: &CallContext,
    mut request: UpdateUserDetailsRequest,
    (actor, allowed): (Actor, Option<FieldSet>),
    origin: Origin,
) -> Result<Update, Error> {
    // A legacy call without a user id has its own error.
    if origin.door == EntryPoint::Grpc {
        given_user_id(request.user_id)?;
    }
    let key = convert::request_key(&mut request, &actor, &origin.identity)?;
    let origin = Origin {
        reason: convert::reason(request.reason)?,
        request_id: key.as_ref().map(|key| key.id.clone()).unwrap_or_default(),
        traceparent: call.span.traceparent(),
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
    })
}

/// Converts the result of an update to its response.
pub(super) fn answer(Updated { user, changes }: Updated) -> UpdateUserDetailsResponse {
    UpdateUserDetailsResponse {
        user_details: Some(convert::user_details(user)),
        changed_fields: Some(convert::paths(&changes)),
        previous_details: Some(convert::values(changes, |change| change.old)),
    }
}
