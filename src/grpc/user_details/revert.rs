//! `RevertUserDetailsChange`.

use tonic::Extensions;

use super::handler::{UserDetails, origin};
use crate::{
    domain::{
        error::Error,
        scope::Scope,
        update::{Origin, Revert, Updated},
    },
    grpc::{auth::Caller, convert, layers::trace::Begun},
    proto::{RevertUserDetailsChangeRequest, RevertUserDetailsChangeResponse},
};

impl UserDetails {
    pub(super) async fn revert(
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
