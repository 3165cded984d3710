//! Service tokens: `m4_ID_SECRET`. The storage holds the id and a hash of the whole token.

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    administration::{Administrator, seconds},
    call_context::CallContext,
    error::Error,
    identity::Identity,
    scope::{FieldSet, Scopes},
};

/// Random bytes of a token: the id, then the secret.
pub const RANDOM_BYTES: usize = ID_BYTES + 32;
const ID_BYTES: usize = 8;

/// The prefix of every token.
const PREFIX: &str = "m4_";

/// Maximum number of active tokens.
pub const MOST_ACTIVE: usize = 1000;

/// A stored token. A fast hash suffices: nobody guesses 256 random bits.
#[derive(Clone)]
pub struct ServiceToken {
    /// The id part of the token.
    pub id: String,
    /// The name of the holder. Several tokens may share a name, which allows rotation.
    pub name: String,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// The scopes.
    pub scopes: Scopes,
    /// The fields and groups that the holder may change, separated by spaces; `None` for all.
    pub fields: Option<String>,
    /// The creation time.
    pub create_time: DateTime<Utc>,
    /// When the token expires; `None` for never.
    pub expire_time: Option<DateTime<Utc>>,
    /// When the token was revoked.
    pub revoke_time: Option<DateTime<Utc>>,
    /// When the token was last used, to the minute.
    pub last_used_time: Option<DateTime<Utc>>,
}

impl ServiceToken {
    /// Creates a token and its text. The text is stored nowhere.
    pub fn new(
        random: [u8; RANDOM_BYTES],
        name: String,
        scopes: Scopes,
        fields: Option<String>,
        create_time: DateTime<Utc>,
        expire_time: Option<DateTime<Utc>>,
    ) -> (SecretString, Self) {
        let (id, secret) = random.split_at(ID_BYTES);
        let id = hex::encode(id);
        let text = format!("{PREFIX}{id}_{}", hex::encode(secret));
        let hash = Sha256::digest(&text).into();
        let (revoke_time, last_used_time) = (None, None);
        let token = Self {
            id,
            name,
            hash,
            scopes,
            fields,
            create_time,
            expire_time,
            revoke_time,
            last_used_time,
        };
        (text.into(), token)
    }

    /// The id in the text of a token; `None` if the text has another form.
    pub fn id_of(text: &str) -> Option<&str> {
        text.strip_prefix(PREFIX)?.split_once('_').map(|(id, _)| id)
    }

    /// Whether a text is this token and the token is active.
    pub fn proves(&self, text: &str, now: DateTime<Utc>) -> bool {
        let hash: [u8; 32] = Sha256::digest(text).into();
        bool::from(hash.ct_eq(&self.hash)) && self.is_active(now)
    }

    /// Whether the token is neither revoked nor expired.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.revoke_time.is_none() && self.expire_time.is_none_or(|end| now < end)
    }

    /// The identity of the holder.
    pub fn holder(&self) -> Identity {
        let fields = self.fields.as_ref().map(|paths| FieldSet::of_paths(paths.split(' ')));
        Identity::new(self.name.clone(), self.scopes, fields)
    }
}

/// For the administration log: no secret and no hash.
impl fmt::Display for ServiceToken {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, scopes, fields, expire_time, .. } = self;
        write!(text, "name={name} scopes={scopes}")?;
        fields.iter().try_for_each(|fields| write!(text, " fields={fields}"))?;
        expire_time.iter().try_for_each(|time| write!(text, " expires={}", seconds(*time)))
    }
}

/// The stored tokens. No token is ever deleted. Each change is in the administration log.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// The active tokens, at most [`MOST_ACTIVE`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn active_tokens(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
    ) -> Result<Vec<ServiceToken>, Error>;

    /// Every token, oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn tokens(&self) -> Result<Vec<ServiceToken>, Error>;

    /// Whether any token exists, active or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn has_tokens(&self, call: &CallContext) -> Result<bool, Error>;

    /// Stores a new token.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn create_token(&self, by: &Administrator, token: ServiceToken) -> Result<(), Error>;

    /// Revokes the unrevoked tokens with an id or a name. Returns their number.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn revoke_tokens(
        &self,
        by: &Administrator,
        id_or_name: &str,
        now: DateTime<Utc>,
    ) -> Result<usize, Error>;

    /// Records the use of a token, unless a use was recorded within the last minute.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn token_used(&self, id: &str, now: DateTime<Utc>) -> Result<(), Error>;
}
