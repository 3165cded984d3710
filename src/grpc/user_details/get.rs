//! `GetUserDetails`.

use tonic::Extensions;

use super::handler::{UserDetails, given_user_id};
use crate::{
    domain::{error::Error, scope::Scope},
    grpc::{auth::Caller, convert, layers::trace::Begun},
    proto::{GetUserDetailsRequest, GetUserDetailsResponse},
};

impl UserDetails {
    pub(super) async fn get(
        &self,
        extensions: &Extensions,
        request: GetUserDetailsRequest,
    ) -> Result<GetUserDetailsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Read, &request.acting_username)?;
        given_user_id(request.user_id)?;
        call.record.set_user(request.user_id);
        let user = self.service.store.read(call, &actor, request.user_id).await?;
        Ok(GetUserDetailsResponse { user_details: Some(convert::user_details(user)) })
    }
}
