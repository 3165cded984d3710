//! `UserDetailsService`, one file per method: converts requests, calls the domain, converts results.

mod batch_update;
mod get;
mod handler;
pub(crate) mod list;
pub(crate) mod list_changes;
mod revert;
pub(super) mod update;
pub(crate) mod watch;

use tonic::{Request, Response, Status};

pub(super) use self::handler::UserDetails;
use super::{
    call::{respond, unary},
    errors,
};
use crate::proto::{
    BatchUpdateUserDetailsRequest, BatchUpdateUserDetailsResponse, GetUserDetailsRequest,
    GetUserDetailsResponse, ListUserDetailsChangesRequest, ListUserDetailsChangesResponse,
    ListUserDetailsRequest, ListUserDetailsResponse, RevertUserDetailsChangeRequest,
    RevertUserDetailsChangeResponse, UpdateUserDetailsRequest, UpdateUserDetailsResponse,
    WatchUserDetailsRequest, user_details_service_server::UserDetailsService,
};

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
