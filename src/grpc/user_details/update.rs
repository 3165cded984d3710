//! `UpdateUserDetails`, of services and of legacy calls.

use tonic::{Extensions, Status, metadata::MetadataValue};

use super::handler::{UserDetails, given_user_id, origin};
use crate::{
    credentials::UPON_ITSELF,
    domain::{
        account::Username,
        call_context::CallContext,
        error::{Error, NotPermitted, Refusal},
        legacy_key::Binding,
        scope::{FieldSet, Scope},
        update::{Actor, EntryPoint, Origin, Update, Updated},
    },
    grpc::{
        auth::{Caller, LegacyCaller},
        convert, errors,
        layers::trace::Begun,
        metrics,
    },
    proto::{UpdateUserDetailsRequest, UpdateUserDetailsResponse},
};

impl UserDetails {
    pub(super) async fn update(
        &self,
        extensions: &Extensions,
        request: UpdateUserDetailsRequest,
    ) -> Result<UpdateUserDetailsResponse, Error> {
        let call = Begun::context(extensions)?;
        call.record.set_user(request.user_id);
        match Caller::of(extensions)? {
            Caller::Internal(caller) => {
                let actor = call.actor(caller, Scope::Update, &request.acting_username)?;
                let origin = origin(caller, extensions);
                let update = to_update(call, request, (actor, caller.fields()), origin)?;
                Ok(to_response(self.service.update(call, update).await?))
            }
            Caller::Legacy(caller) => self.update_for_legacy(call, caller, request).await,
        }
    }

    /// Handles a legacy call, and counts it for its client.
    async fn update_for_legacy(
        &self,
        call: &CallContext,
        LegacyCaller { credentials, matched }: &LegacyCaller,
        request: UpdateUserDetailsRequest,
    ) -> Result<UpdateUserDetailsResponse, Error> {
        if !credentials.are_for(request.user_id) {
            metrics::hash_failed(&Error::IncorrectHash);
            return Err(Error::IncorrectHash);
        }
        let actor = Actor::Account(Username::parse(&credentials.username));
        let address = credentials.address.clone();
        let identity = matched.key.name().to_owned();
        let origin = Origin { address, identity, ..Origin::of(EntryPoint::Legacy) };
        let update = to_update(call, request, (actor, matched.key.fields()), origin)?;
        let fields = update.edits.fields().collect();
        let counting = self.service.count(credentials, matched, fields);
        let is_check = update.validate_only;
        let updated = self.service.update(call, update).await;
        match &updated {
            Ok(_) if is_check => counting.checked(),
            Ok(_) => counting.stored(),
            Err(error) => counting.refused(error),
        }
        Ok(to_response(updated.map_err(of_key)?))
    }
}

/// The error of a legacy call. Its key names the allowed fields.
pub(in crate::grpc) fn of_key(error: Error) -> Error {
    match error {
        Error::NotPermitted(NotPermitted::Field(field)) => Binding::Field(field).into(),
        error => error,
    }
}

/// Converts a request to an update. The actor may change the `allowed` fields; `None` is all.
pub(in crate::grpc) fn to_update(
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
pub(in crate::grpc) fn to_response(
    Updated { user, changes }: Updated,
) -> UpdateUserDetailsResponse {
    UpdateUserDetailsResponse {
        user_details: Some(convert::user_details(user)),
        changed_fields: Some(convert::paths(&changes)),
        previous_details: Some(convert::values(changes, |change| change.old)),
    }
}

/// The status of a refused update. A legacy call by the updated account itself is marked.
pub(super) fn to_status(error: Error, extensions: &Extensions) -> Status {
    let itself = matches!(error, Error::ActorRefused(Refusal::Itself));
    let is_legacy = matches!(extensions.get(), Some(Caller::Legacy(_)));
    let mut status = errors::to_status(error);
    if itself && is_legacy {
        status.metadata_mut().insert(UPON_ITSELF, MetadataValue::from_static("1"));
    }
    status
}
