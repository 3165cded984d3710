//! Who calls: an internal service with a token, or the legacy door with a legacy client's credentials.

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tonic::{Extensions, metadata::MetadataMap};

use crate::{
    credentials::{DOOR_IDENTITY, LegacyCredentials, NotLegacy},
    domain::{account::Username, error::Error, update::Actor},
};

/// The account as which a caller without a token acts, where none is needed.
const OPEN_ACCOUNT: &str = "admin";

/// Marks a request that comes from the door in this very process.
#[derive(Clone, Copy, Debug)]
pub struct InProcessDoor;

/// The static token of internal callers.
#[derive(Clone, Debug)]
pub struct InternalToken {
    /// The name that stands in the change log for changes in the caller's own name.
    pub service: String,
    /// The token.
    pub token: SecretString,
    /// Whether a call without `acting_username` acts in the caller's own name, with an admin's rights.
    pub own_name: bool,
}

/// What callers must prove.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    /// The token of internal callers.
    pub internal: Option<InternalToken>,
    /// The token of a door in a process of its own.
    pub door: Option<SecretString>,
    /// Nothing need be proved: no token is configured, and it is demo data on a loopback address, or `--insecure`.
    pub open: bool,
}

/// Who calls, proved.
pub(super) enum Caller {
    /// An internal service.
    Internal(Internal),
    /// The door, for a legacy client whose hash is still to be checked.
    Legacy(LegacyCredentials),
}

/// How an internal service acts without an `acting_username`.
pub(super) enum Internal {
    /// As this account.
    Account(&'static str),
    /// In its own name.
    OwnName(String),
    /// Not at all.
    Nobody,
}

impl Internal {
    /// Who acts.
    pub(super) fn actor(self, acting_username: &str) -> Result<Actor, Error> {
        if !acting_username.is_empty() {
            return Ok(Actor::Account(Username::parse(acting_username)));
        }
        match self {
            Self::Account(name) => Ok(Actor::Account(Username::parse(name))),
            Self::OwnName(service) => Ok(Actor::Service(service)),
            Self::Nobody => Err(Error::AccessDenied),
        }
    }
}

impl Authentication {
    /// Who calls.
    pub(super) fn caller(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Caller, Error> {
        let Some(authorization) = text(metadata, "authorization")? else {
            if self.open {
                return Ok(Caller::Internal(Internal::Account(OPEN_ACCOUNT)));
            }
            return Err(Error::Unauthenticated);
        };
        match LegacyCredentials::from_header(authorization) {
            Ok(credentials) if self.is_door(metadata, extensions)? => {
                Ok(Caller::Legacy(credentials))
            }
            Err(NotLegacy::OtherScheme) => self.internal(authorization).map(Caller::Internal),
            Ok(_) | Err(NotLegacy::Malformed) => Err(Error::Unauthenticated),
        }
    }

    /// Who calls, where the door may not.
    pub(super) fn internal_caller(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Internal, Error> {
        match self.caller(metadata, extensions)? {
            Caller::Internal(internal) => Ok(internal),
            Caller::Legacy(_) => Err(Error::Unauthenticated),
        }
    }

    fn internal(&self, authorization: &str) -> Result<Internal, Error> {
        let token = self.internal.as_ref().ok_or(Error::Unauthenticated)?;
        if !is_bearer(authorization, &token.token) {
            return Err(Error::Unauthenticated);
        }
        Ok(if token.own_name { Internal::OwnName(token.service.clone()) } else { Internal::Nobody })
    }

    fn is_door(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<bool, Error> {
        if extensions.get::<InProcessDoor>().is_some() {
            return Ok(true);
        }
        let identity = text(metadata, DOOR_IDENTITY)?;
        Ok(match (&self.door, identity) {
            (Some(token), Some(identity)) => is_bearer(identity, token),
            (None, None) => self.open,
            _ => false,
        })
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &'static str) -> Result<Option<&'a str>, Error> {
    let text = metadata.get(key).map(|value| value.to_str());
    text.transpose().map_err(|_| Error::Unauthenticated)
}

fn is_bearer(authorization: &str, token: &SecretString) -> bool {
    // The scheme's name is compared without regard to case: RFC 9110, section 11.1.
    let Some((scheme, sent)) = authorization.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer")
        && bool::from(sent.as_bytes().ct_eq(token.expose_secret().as_bytes()))
}
