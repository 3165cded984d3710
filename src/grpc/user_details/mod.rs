//! `UserDetailsService`, one file per method: convert, call, convert.

mod batch_update;
mod get;
mod list;
mod list_changes;
mod revert;
mod update;
mod watch;

use std::sync::Arc;

use tonic::{Extensions, Request, Response, Status};

pub(super) use self::update::{to_response, to_update};
pub(crate) use self::watch::SEND_TIMEOUT;
pub(crate) use self::{list::to_query as list_query, list_changes::to_query as changes_query};
use super::{
    auth::Authentication,
    call::{CallOptions, respond},
    errors,
    layers::{Workers, workers::OnWorker},
};
use crate::{
    domain::{
        error::Error,
        identity::Identity,
        service::Service,
        update::{EntryPoint, Origin},
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
        let updated = self.update(&extensions, request).await;
        Ok(respond(&metadata, updated.map_err(|error| update::to_status(error, &extensions))?))
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
        self.watch(request).await.map_err(errors::to_status)
    }

    async fn revert_user_details_change(
        &self,
        request: Request<RevertUserDetailsChangeRequest>,
    ) -> Result<Response<RevertUserDetailsChangeResponse>, Status> {
        unary!(self.revert(request))
    }
}

impl UserDetails {
    /// The workers for a part of a call; `None` if the call runs on a worker.
    fn workers_for(&self, extensions: &Extensions) -> Option<&Workers> {
        (!OnWorker::is_in(extensions)).then_some(&*self.workers)
    }
}

/// The origin of a typed API call. The address is empty for callers in this process.
fn origin(caller: &Identity, extensions: &Extensions) -> Origin {
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
