//! Who calls: an internal service with a token or a client certificate, or the legacy door with a legacy client's credentials.

use std::sync::Arc;

use http::{Extensions, HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::certificates::Certificates;
use crate::{
    credentials::{DOOR_IDENTITY, LegacyCredentials, NotLegacy},
    domain::{
        error::Error,
        identity::{Identity, Scope},
        token::ServiceToken,
        token_cache::TokenCache,
    },
    jwt::Jwts,
};

/// Marks a request that comes from the door in this very process.
#[derive(Clone, Copy, Debug)]
pub struct InProcessDoor;

/// The static token of internal callers.
#[derive(Clone, Debug)]
pub struct InternalToken {
    /// Its holder.
    pub identity: Arc<Identity>,
    /// The token.
    pub token: SecretString,
}

impl InternalToken {
    /// The token of a holder that may act as any account; with `own_name` in its own name too, with an admin's rights.
    pub fn new(name: String, token: SecretString, own_name: bool) -> Self {
        let scopes = Scope::ALL.into_iter();
        let scopes = scopes.filter(|one| own_name || *one != Scope::Admin).collect();
        Self { identity: Arc::new(Identity::new(name, scopes, None)), token }
    }
}

/// What callers must prove.
#[derive(Clone, Default)]
pub struct Authentication {
    /// The static token of internal callers.
    pub internal: Option<InternalToken>,
    /// Authenticates service tokens.
    pub token_cache: Option<Arc<TokenCache>>,
    /// The JWTs that are accepted.
    pub jwts: Option<Arc<Jwts>>,
    /// The token of a door in a process of its own.
    pub door: Option<SecretString>,
    /// Whose client certificates are.
    pub certificates: Certificates,
    /// Nothing need be proved while there is no service token: none is configured, and it is demo data on a loopback
    /// address, or `--insecure`.
    pub open: bool,
}

/// Who calls, proved: an extension of the request.
#[derive(Clone)]
pub(super) enum Caller {
    /// A caller of the typed API.
    Internal(Arc<Identity>),
    /// The gateway, for a legacy client. [`super::layers::authentication`] has checked the hash.
    Legacy(LegacyCredentials),
}

impl Caller {
    /// The caller of a request that has passed authentication.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] without one.
    pub(super) fn of(extensions: &Extensions) -> Result<&Self, Error> {
        extensions.get().ok_or(Error::Unauthenticated)
    }

    /// The caller of a request that the gateway may not send.
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

impl Authentication {
    /// Who calls.
    pub(super) async fn caller(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Caller, Error> {
        let Some(authorization) = text(headers, "authorization")? else {
            if let Some(identity) = self.certificates.identity(extensions) {
                return Ok(Caller::Internal(identity));
            }
            if self.is_open().await? {
                return Ok(Caller::Internal(Identity::open()));
            }
            return Err(Error::Unauthenticated);
        };
        match LegacyCredentials::from_header(authorization) {
            Ok(credentials) if self.is_door(headers, extensions).await? => {
                Ok(Caller::Legacy(credentials))
            }
            Err(NotLegacy::OtherScheme) => Ok(Caller::Internal(self.holder(authorization).await?)),
            Ok(_) | Err(NotLegacy::Malformed) => Err(Error::Unauthenticated),
        }
    }

    /// Who calls, where the door may not.
    pub(super) async fn internal_caller(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Arc<Identity>, Error> {
        match self.caller(headers, extensions).await? {
            Caller::Internal(identity) => Ok(identity),
            Caller::Legacy(_) => Err(Error::Unauthenticated),
        }
    }

    /// The holder of a bearer token of any kind.
    async fn holder(&self, authorization: &str) -> Result<Arc<Identity>, Error> {
        let token = bearer(authorization).ok_or(Error::Unauthenticated)?;
        if let Some(internal) = &self.internal
            && is_token(token, &internal.token)
        {
            return Ok(Arc::clone(&internal.identity));
        }
        match (&self.token_cache, &self.jwts) {
            (Some(token_cache), _) if ServiceToken::id_of(token).is_some() => {
                token_cache.authenticate(token).await
            }
            (_, Some(jwts)) => Ok(Arc::new(jwts.holder(token).await?)),
            _ => Err(Error::Unauthenticated),
        }
    }

    /// Whether nothing need be proved.
    async fn is_open(&self) -> Result<bool, Error> {
        match &self.token_cache {
            Some(token_cache) if self.open => Ok(!token_cache.any().await?),
            _ => Ok(self.open),
        }
    }

    /// Whether a gateway calls, proved.
    pub(super) async fn is_door(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<bool, Error> {
        if extensions.get::<InProcessDoor>().is_some() {
            return Ok(true);
        }
        let identity = text(headers, DOOR_IDENTITY)?;
        Ok(match (&self.door, identity) {
            (_, None) if self.certificates.is_door(extensions) => true,
            (Some(token), Some(identity)) => {
                bearer(identity).is_some_and(|sent| is_token(sent, token))
            }
            (None, None) => self.is_open().await?,
            _ => false,
        })
    }
}

fn text<'a>(headers: &'a HeaderMap, key: &'static str) -> Result<Option<&'a str>, Error> {
    let text = headers.get(key).map(|value| value.to_str());
    text.transpose().map_err(|_| Error::Unauthenticated)
}

fn bearer(authorization: &str) -> Option<&str> {
    // The scheme's name is compared without regard to case: RFC 9110, section 11.1.
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn is_token(sent: &str, token: &SecretString) -> bool {
    sent.as_bytes().ct_eq(token.expose_secret().as_bytes()).into()
}
