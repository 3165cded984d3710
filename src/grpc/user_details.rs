//! `UserDetailsService`: convert, call, convert.

use std::{sync::Arc, time::Duration};

use tonic::{Extensions, Request, Response, Status, transport::server::TcpConnectInfo};

use super::{
    auth::{Authentication, Caller},
    call, convert, listing,
};
use crate::{
    domain::{
        account::Username,
        listing::Position,
        service::Service,
        update::{Actor, Door, Origin, Update, Updated},
    },
    proto::{
        GetUserDetailsRequest, GetUserDetailsResponse, ListUserDetailsChangesRequest,
        ListUserDetailsChangesResponse, ListUserDetailsRequest, ListUserDetailsResponse,
        RevertUserDetailsChangeRequest, RevertUserDetailsChangeResponse, UpdateUserDetailsRequest,
        UpdateUserDetailsResponse, user_details_service_server::UserDetailsService,
    },
};

/// The service.
pub(super) struct UserDetails {
    pub(super) service: Arc<Service>,
    pub(super) authentication: Arc<Authentication>,
    pub(super) deadline: Duration,
}

#[tonic::async_trait]
impl UserDetailsService for UserDetails {
    async fn get_user_details(
        &self,
        request: Request<GetUserDetailsRequest>,
    ) -> Result<Response<GetUserDetailsResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions)?;
            let actor = caller.actor(&request.acting_username)?;
            let user = self.service.read(&actor, request.user_id).await?;
            Ok(GetUserDetailsResponse { user_details: Some(convert::user_details(user)) })
        };
        let method = "m4.userdetails.v1.UserDetailsService/GetUserDetails";
        call::run(method, &metadata, &extensions, self.deadline, call).await
    }

    async fn update_user_details(
        &self,
        request: Request<UpdateUserDetailsRequest>,
    ) -> Result<Response<UpdateUserDetailsResponse>, Status> {
        let (metadata, extensions, mut request) = request.into_parts();
        let call = async {
            let (actor, door, address) = match self.authentication.caller(&metadata, &extensions)? {
                Caller::Internal(internal) => {
                    let address = address(&extensions);
                    (internal.actor(&request.acting_username)?, Door::Grpc, address)
                }
                Caller::Legacy(credentials) => {
                    self.service.authenticate(&credentials, request.user_id).await?;
                    let actor = Actor::Account(Username::parse(&credentials.username));
                    (actor, Door::Legacy, credentials.address)
                }
            };
            let request_key = convert::request_key(&mut request, &actor)?;
            let origin = Origin {
                door,
                address,
                reason: convert::reason(request.reason)?,
                request_id: request_key.as_ref().map(|key| key.id.clone()).unwrap_or_default(),
            };
            let details = request.user_details.unwrap_or_default();
            let etag = Some(details.etag.clone()).filter(|etag| !etag.is_empty());
            let edits = convert::edits(details, request.update_mask.as_ref())?;
            let (user_id, validate_only) = (request.user_id, request.validate_only);
            let update = Update {
                actor,
                origin,
                user_id,
                edits,
                etag,
                request: request_key,
                unchanged: Vec::new(),
                validate_only,
            };
            let Updated { user, changes } = self.service.update(update).await?;
            Ok(UpdateUserDetailsResponse {
                user_details: Some(convert::user_details(user)),
                changed_fields: Some(convert::paths(&changes)),
                previous_details: Some(convert::values(changes, |change| change.old)),
            })
        };
        let method = "m4.userdetails.v1.UserDetailsService/UpdateUserDetails";
        call::run(method, &metadata, &extensions, self.deadline, call).await
    }

    async fn list_user_details(
        &self,
        request: Request<ListUserDetailsRequest>,
    ) -> Result<Response<ListUserDetailsResponse>, Status> {
        let (metadata, extensions, mut request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions)?;
            let actor = caller.actor(&request.acting_username)?;
            let mask = convert::read_mask(request.read_mask.as_ref())?;
            let paged = listing::users(std::mem::take(&mut request))?;
            let mut users = self.service.list(&actor, &paged.query).await?;
            let key = paged.query.order.key;
            let next_page_token = paged.cut(&mut users, |user| Position::of(user, key));
            let user_details = users.into_iter().map(|user| convert::masked_details(user, &mask));
            Ok(ListUserDetailsResponse { user_details: user_details.collect(), next_page_token })
        };
        let method = "m4.userdetails.v1.UserDetailsService/ListUserDetails";
        call::run(method, &metadata, &extensions, self.deadline, call).await
    }

    async fn list_user_details_changes(
        &self,
        request: Request<ListUserDetailsChangesRequest>,
    ) -> Result<Response<ListUserDetailsChangesResponse>, Status> {
        let (metadata, extensions, mut request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions)?;
            let actor = caller.actor(&request.acting_username)?;
            let paged = listing::changes(std::mem::take(&mut request))?;
            let mut changes = self.service.list_changes(&actor, &paged.query).await?;
            let next_page_token = paged.cut(&mut changes, listing::position);
            let changes = changes.into_iter().map(listing::change).collect();
            Ok(ListUserDetailsChangesResponse { changes, next_page_token })
        };
        let method = "m4.userdetails.v1.UserDetailsService/ListUserDetailsChanges";
        call::run(method, &metadata, &extensions, self.deadline, call).await
    }

    async fn revert_user_details_change(
        &self,
        request: Request<RevertUserDetailsChangeRequest>,
    ) -> Result<Response<RevertUserDetailsChangeResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let call = async {
            let caller = self.authentication.internal_caller(&metadata, &extensions)?;
            let actor = caller.actor(&request.acting_username)?;
            let reason = convert::reason(request.reason)?;
            let address = address(&extensions);
            let origin = Origin { reason, address, ..Origin::of(Door::Grpc) };
            let etag = Some(request.etag).filter(|etag| !etag.is_empty());
            let (change_id, validate_only) = (request.change_id, request.validate_only);
            let reverted = self.service.revert(actor, origin, change_id, etag, validate_only);
            let Updated { user, changes } = reverted.await?;
            Ok(RevertUserDetailsChangeResponse {
                user_details: Some(convert::user_details(user)),
                changed_fields: Some(convert::paths(&changes)),
                previous_details: Some(convert::values(changes, |change| change.old)),
            })
        };
        let method = "m4.userdetails.v1.UserDetailsService/RevertUserDetailsChange";
        call::run(method, &metadata, &extensions, self.deadline, call).await
    }
}

/// The address of a caller; empty where it is in this process.
fn address(extensions: &Extensions) -> String {
    let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    peer.map(|peer| peer.ip().to_string()).unwrap_or_default()
}
