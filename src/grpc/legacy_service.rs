//! `LegacyService`: parses a legacy call like the gateway, validates it, and explains the result.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Method,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use tonic::{Extensions, Request, Response, Status};

use super::{
    administration::administrator,
    auth::{Caller, LegacyCaller},
    call::unary,
    errors::{self, invalid_request},
    explanation,
    layers::trace::Begun,
    user_details::update,
};
use crate::{
    credentials::LegacyCredentials,
    domain::{
        account::Username,
        administration::{AdminChange, Administrator, Object},
        call_context::CallContext,
        error::{Error, NotPermitted},
        legacy_access::LegacyAccess,
        scope::Scope,
        service::Service,
        update::{Actor, EntryPoint, Origin, Update, Updated},
    },
    fields::parse_id,
    legacy_call::{self, explain::Read, outcome},
    proto::{
        AddLegacyBlockRequest, AddLegacyBlockResponse, CreateLegacyKeyRequest,
        CreateLegacyKeyResponse, ExplainLegacyCallRequest, ExplainLegacyCallResponse,
        LiftLegacyBlockRequest, LiftLegacyBlockResponse, ListLegacyBlocksRequest,
        ListLegacyBlocksResponse, ListLegacyClientsRequest, ListLegacyClientsResponse,
        ListLegacyKeysRequest, ListLegacyKeysResponse, RevokeLegacyKeysRequest,
        RevokeLegacyKeysResponse, RotateLegacyKeyRequest, RotateLegacyKeyResponse,
        UpdateUserDetailsRequest, legacy_service_server::LegacyService,
    },
    server::head::LongQuery,
};

/// The handlers of `LegacyService`.
pub(super) struct LegacyCalls {
    pub(super) service: Arc<Service>,
    /// The gateway's body limit, in bytes.
    pub(super) largest_body: usize,
    /// Maximum size of a message, in bytes.
    pub(super) largest_message: usize,
}

#[tonic::async_trait]
impl LegacyService for LegacyCalls {
    async fn explain_legacy_call(
        &self,
        request: Request<ExplainLegacyCallRequest>,
    ) -> Result<Response<ExplainLegacyCallResponse>, Status> {
        unary!(self.explain(request))
    }

    async fn create_legacy_key(
        &self,
        request: Request<CreateLegacyKeyRequest>,
    ) -> Result<Response<CreateLegacyKeyResponse>, Status> {
        unary!(self.create_key(request))
    }

    async fn list_legacy_keys(
        &self,
        request: Request<ListLegacyKeysRequest>,
    ) -> Result<Response<ListLegacyKeysResponse>, Status> {
        unary!(self.list_keys(request))
    }

    async fn revoke_legacy_keys(
        &self,
        request: Request<RevokeLegacyKeysRequest>,
    ) -> Result<Response<RevokeLegacyKeysResponse>, Status> {
        unary!(self.revoke_keys(request))
    }

    async fn rotate_legacy_key(
        &self,
        request: Request<RotateLegacyKeyRequest>,
    ) -> Result<Response<RotateLegacyKeyResponse>, Status> {
        unary!(self.rotate_key(request))
    }

    async fn list_legacy_clients(
        &self,
        request: Request<ListLegacyClientsRequest>,
    ) -> Result<Response<ListLegacyClientsResponse>, Status> {
        unary!(self.list_clients(request))
    }

    async fn list_legacy_blocks(
        &self,
        request: Request<ListLegacyBlocksRequest>,
    ) -> Result<Response<ListLegacyBlocksResponse>, Status> {
        unary!(self.list_blocks(request))
    }

    async fn add_legacy_block(
        &self,
        request: Request<AddLegacyBlockRequest>,
    ) -> Result<Response<AddLegacyBlockResponse>, Status> {
        unary!(self.add_block(request))
    }

    async fn lift_legacy_block(
        &self,
        request: Request<LiftLegacyBlockRequest>,
    ) -> Result<Response<LiftLegacyBlockResponse>, Status> {
        unary!(self.lift_block(request))
    }
}

impl LegacyCalls {
    async fn explain(
        &self,
        extensions: &Extensions,
        request: ExplainLegacyCallRequest,
    ) -> Result<ExplainLegacyCallResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = &call.actor(&caller, Scope::Admin, &request.acting_username)?;
        if request.include_hash && caller.fields().is_some() {
            // With the hash, a legacy call can change every field.
            return Err(NotPermitted::Hash.into());
        }
        let include_hash = request.include_hash;
        let by = administrator(&caller, extensions, &request.acting_username);
        let (address, request) = (address(&request.address)?, http_request(request)?);
        let mut read = legacy_call::explain::read(request, &address, self.largest_body).await;
        read.call.credentials = read.call.credentials.carried();
        let explained = self.service.explain(call, actor, &read.call.credentials);
        let (access, hash) = explained.await?;
        let settings = &access.settings;
        if include_hash {
            self.log_hash(call, &by, &read.call.credentials).await?;
        }
        let update = to_update(call, &mut read)?;
        // Report the violations found while parsing even if an earlier check refuses the call.
        let found = errors::status(&Error::Invalid(update.edits.violations().to_vec()));
        let mut invalid = outcome::violations(&read.call, Some(&found));
        let mut updated = None;
        let (outcome, (check, explanation)) = if let Some(refused) = read.refused.take() {
            let finding = explanation::of_door(&refused);
            (refused, finding)
        } else {
            match self.check(call, &access, &read, update).await {
                Ok(would) => {
                    let outcome = outcome::of(Ok(()), &read.call);
                    let is_stored = invalid.is_empty() && read.unreadable.is_none();
                    updated = Some(would).filter(|_| is_stored);
                    let finding = match &updated {
                        Some(updated) => explanation::of_update(updated),
                        None => explanation::of_values(&invalid),
                    };
                    (outcome, finding)
                }
                Err(error) => {
                    let status = errors::status(&error);
                    if matches!(error, Error::Invalid(_)) {
                        invalid = outcome::violations(&read.call, Some(&status));
                    }
                    let exists = match error {
                        Error::UserNotFound(_) => self.exists(call, actor, &read).await?,
                        _ => false,
                    };
                    let finding = explanation::of_error(error, settings, &hash, exists, &invalid)?;
                    (outcome::of(Err(&status), &read.call), finding)
                }
            }
        };
        Ok(ExplainLegacyCallResponse {
            check: check.into(),
            explanation: explanation + &explanation::notes(&read),
            http_status: outcome.http.as_u16().into(),
            xml: String::from_utf8_lossy(&outcome.answer.to_xml()).into_owned(),
            update: updated.map(update::to_response),
            parameters: read.parameters.into_iter().map(explanation::parameter).collect(),
            invalid_parameters: invalid.into_iter().map(explanation::invalid).collect(),
            body_ignored: read.unreadable.is_some(),
            hash: Some(explanation::hash(hash, settings, include_hash)),
        })
    }

    /// Runs the service's checks on the call.
    async fn check(
        &self,
        call: &CallContext,
        access: &LegacyAccess,
        read: &Read,
        update: Update,
    ) -> Result<Updated, Error> {
        let credentials = &read.call.credentials;
        let matched = self.service.check_credentials(access, credentials)?;
        let caller = LegacyCaller::new(credentials.clone(), matched, read.call.unfit_fields())?;
        if !credentials.are_for(update.user_id) {
            return Err(Error::IncorrectHash);
        }
        let update = Update { allowed: caller.matched.key.fields(), ..update };
        self.service.update(call, update).await.map_err(update::of_key)
    }

    /// Logs that a caller gets the right hashes of a call.
    async fn log_hash(
        &self,
        call: &CallContext,
        by: &Administrator,
        credentials: &LegacyCredentials,
    ) -> Result<(), Error> {
        let change = AdminChange {
            object: Object::LegacyHash,
            // The hashed parameters, as far as the column holds them.
            name: format!("u={:?} user_id={:?}", credentials.username, credentials.user_id)
                .chars()
                .take(255)
                .collect(),
            old: None,
            new: None,
        };
        let by = (by, self.service.clock.now());
        self.service.store.log_administration(call, by, change).await
    }

    /// Whether the plain user exists and is visible to the calling admin.
    async fn exists(&self, call: &CallContext, admin: &Actor, read: &Read) -> Result<bool, Error> {
        let Some(user_id) = parse_id(&read.call.credentials.user_id) else { return Ok(false) };
        match self.service.store.read(call, admin, user_id).await {
            Ok(_) => Ok(true),
            Err(Error::UserNotFound(_) | Error::ActorRefused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The update of the call, with `validate_only` set.
fn to_update(call: &CallContext, read: &mut Read) -> Result<Update, Error> {
    let asked = std::mem::take(&mut read.call.request);
    let asked = UpdateUserDetailsRequest { validate_only: true, ..asked };
    let credentials = &read.call.credentials;
    let actor = Actor::Account(Username::parse(&credentials.username));
    let address = credentials.address.clone();
    update::to_update(
        call,
        asked,
        (actor, None),
        Origin { address, ..Origin::of(EntryPoint::Legacy) },
    )
}

/// The HTTP request that the legacy client would send.
fn http_request(request: ExplainLegacyCallRequest) -> Result<http::Request<Bytes>, Error> {
    let method = match &*request.method {
        "" => Method::POST,
        method => Method::from_bytes(method.as_bytes())
            .map_err(|_| invalid_request("method", "is no HTTP method"))?,
    };
    let target = legacy_call::target(&request.url)
        .map_err(|error| invalid_request("url", format!("cannot be sent: {error}")))?;
    let body = match (request.body.is_empty(), request.binary_body.is_empty()) {
        (false, false) => {
            return Err(invalid_request("binary_body", "is only for calls without body"));
        }
        (true, false) => request.binary_body.into(),
        (_, true) => Bytes::from(request.body),
    };
    let mut http = http::Request::new(body);
    (*http.method_mut(), *http.uri_mut()) = (method, target.uri);
    if let Some(query) = target.long_query {
        http.extensions_mut().insert(LongQuery::new(query.into(), None));
    }
    for (name, field, value) in [
        (CONTENT_TYPE, "content_type", request.content_type),
        (CONTENT_ENCODING, "content_encoding", request.content_encoding),
    ] {
        if let Some(value) = value {
            let value = HeaderValue::from_str(&value)
                .map_err(|_| invalid_request(field, "is not a valid header value"))?;
            http.headers_mut().insert(name, value);
        }
    }
    Ok(http)
}

/// The client's address in the gateway's format.
fn address(address: &str) -> Result<String, Error> {
    if address.is_empty() {
        return Ok(String::new());
    }
    let address =
        address.parse::<IpAddr>().map_err(|_| invalid_request("address", "is no IP address"))?;
    Ok(address.to_string())
}
