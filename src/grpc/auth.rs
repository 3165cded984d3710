//! Identifies callers: internal services, and the gateway with a legacy client's credentials.

use std::sync::Arc;

use http::{Extensions, HeaderMap};

use super::certificates::Certificates;
use crate::{
    credentials::{DOOR_IDENTITY, LegacyCredentials, NotLegacy},
    domain::{
        call_context::CallContext,
        error::Error,
        identity::Identity,
        key_ring::Matched,
        legacy_key::{Binding, MatchedKey},
        scope::Scope,
        token::ServiceToken,
        token_cache::TokenCache,
    },
    fields::Field,
    jwt::Jwts,
    secrets::Secrets,
};

/// Marks a request from the gateway in this process.
#[derive(Clone, Copy, Debug)]
pub struct InProcessDoor;

/// The static token of internal callers.
#[derive(Clone, Debug)]
pub struct InternalToken {
    /// The holder of the token.
    pub identity: Arc<Identity>,
    /// The token, and others that are accepted during a rotation.
    pub tokens: Secrets,
}

impl InternalToken {
    /// A token whose holder may act as any account; with `own_name` also in its own name, as admin.
    pub fn new(name: String, tokens: Secrets, own_name: bool) -> Self {
        let scopes = Scope::ALL.into_iter();
        let scopes = scopes.filter(|one| own_name || *one != Scope::Admin).collect();
        Self { identity: Arc::new(Identity::new(name, scopes, None)), tokens }
    }
}

/// The credentials that the service accepts.
#[derive(Clone, Default)]
pub struct Authentication {
    /// The static token of internal callers.
    pub internal: Option<InternalToken>,
    /// Authenticates service tokens.
    pub token_cache: Option<Arc<TokenCache>>,
    /// Verifies JWTs.
    pub jwts: Option<Arc<Jwts>>,
    /// The tokens of standalone gateways.
    pub door: Option<Secrets>,
    /// The holders of client certificates.
    pub certificates: Certificates,
    /// Accepts unauthenticated callers while no service token exists. Set if no method is
    /// configured, and either with `--insecure` or for demo data on a loopback address.
    pub open: bool,
}

/// The authenticated caller, stored as a request extension.
#[derive(Clone)]
pub(super) enum Caller {
    /// A caller of the typed API.
    Internal(Arc<Identity>),
    /// The gateway, for a legacy client. [`super::layers::authentication`] has checked the hash.
    Legacy(Box<LegacyCaller>),
}

/// A legacy client.
#[derive(Clone)]
pub(super) struct LegacyCaller {
    pub(super) credentials: LegacyCredentials,
    /// The key and the recipe of the hash.
    pub(super) matched: Matched,
}

impl LegacyCaller {
    /// The caller, if its key allows it. `unfit` are the paths of fields with values that no typed field
    /// can hold, separated by commas.
    ///
    /// # Errors
    /// [`Error::KeyNotAllowed`].
    pub(super) fn new(
        credentials: LegacyCredentials,
        matched: Matched,
        unfit: Option<impl AsRef<str>>,
    ) -> Result<Self, Error> {
        if let MatchedKey::Client(key) = &matched.key {
            key.permit(&credentials)?;
        }
        if let (Some(allowed), Some(unfit)) = (matched.key.fields(), unfit) {
            let mut fields = unfit.as_ref().split(',').filter_map(Field::from_path);
            if let Some(field) = fields.find(|field| !allowed.has(*field)) {
                return Err(Binding::Field(field).into());
            }
        }
        Ok(Self { credentials, matched })
    }
}

/// The caller of the API before its hash is checked.
pub(super) enum Claimed {
    /// A caller of the typed API.
    Internal(Arc<Identity>),
    /// The gateway, with the credentials of a legacy client.
    Legacy(LegacyCredentials),
}

impl Caller {
    /// The caller of an authenticated request.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without a caller.
    pub(super) fn of(extensions: &Extensions) -> Result<&Self, Error> {
        extensions.get().ok_or(Error::Unauthenticated)
    }

    /// The internal caller of an authenticated request.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for the gateway.
    pub(super) fn identity(extensions: &Extensions) -> Result<Arc<Identity>, Error> {
        match Self::of(extensions)? {
            Self::Internal(identity) => Ok(Arc::clone(identity)),
            Self::Legacy(_) => Err(Error::Unauthenticated),
        }
    }
}

impl Claimed {
    /// The identity of an internal caller.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for the gateway.
    pub(super) fn internal(self) -> Result<Arc<Identity>, Error> {
        match self {
            Self::Internal(identity) => Ok(identity),
            Self::Legacy(_) => Err(Error::Unauthenticated),
        }
    }
}

impl Authentication {
    /// Authenticates the caller, but for the hash of a legacy client.
    pub(super) async fn caller(
        &self,
        call: &CallContext,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Claimed, Error> {
        let Some(authorization) = text(headers, "authorization")? else {
            if let Some(identity) = self.certificates.identity(extensions) {
                return Ok(Claimed::Internal(identity));
            }
            if self.is_open(call).await? {
                return Ok(Claimed::Internal(Identity::open()));
            }
            return Err(Error::Unauthenticated);
        };
        match LegacyCredentials::from_header(authorization) {
            Ok(credentials) if self.is_door(call, headers, extensions).await? => {
                Ok(Claimed::Legacy(credentials))
            }
            Err(NotLegacy::OtherScheme) => {
                Ok(Claimed::Internal(self.holder(call, authorization).await?))
            }
            Ok(_) | Err(NotLegacy::Malformed) => Err(Error::Unauthenticated),
        }
    }

    /// The holder of a bearer token of any kind.
    async fn holder(
        &self,
        call: &CallContext,
        authorization: &str,
    ) -> Result<Arc<Identity>, Error> {
        let token = bearer(authorization).ok_or(Error::Unauthenticated)?;
        if let Some(internal) = &self.internal
            && internal.tokens.contain(token)
        {
            return Ok(Arc::clone(&internal.identity));
        }
        match (&self.token_cache, &self.jwts) {
            (Some(token_cache), _) if ServiceToken::id_of(token).is_some() => {
                token_cache.authenticate(call, token).await
            }
            (_, Some(jwts)) => Ok(Arc::new(jwts.holder(token).await?)),
            _ => Err(Error::Unauthenticated),
        }
    }

    /// Whether unauthenticated callers are accepted.
    async fn is_open(&self, call: &CallContext) -> Result<bool, Error> {
        match &self.token_cache {
            Some(token_cache) if self.open => Ok(!token_cache.any(call).await?),
            _ => Ok(self.open),
        }
    }

    /// Whether the caller is an authenticated gateway.
    pub(super) async fn is_door(
        &self,
        call: &CallContext,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<bool, Error> {
        if extensions.get::<InProcessDoor>().is_some() {
            return Ok(true);
        }
        let identity = text(headers, DOOR_IDENTITY)?;
        Ok(match (&self.door, identity) {
            (_, None) if self.certificates.is_door(extensions) => true,
            (Some(tokens), Some(identity)) => {
                bearer(identity).is_some_and(|sent| tokens.contain(sent))
            }
            (None, None) => self.is_open(call).await?,
            _ => false,
        })
    }
}

pub(super) fn text<'a>(
    headers: &'a HeaderMap,
    key: &'static str,
) -> Result<Option<&'a str>, Error> {
    let text = headers.get(key).map(|value| value.to_str());
    text.transpose().map_err(|_| Error::Unauthenticated)
}

fn bearer(authorization: &str) -> Option<&str> {
    // The scheme name is case-insensitive: RFC 9110, section 11.1.
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
