//! Service tokens: `m4_ID_SECRET`, of which the id is stored and of the whole a hash.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    error::Error,
    identity::{FieldSet, Identity, Scopes},
};

/// How many random bytes make a token: those of its id, then those of its secret.
pub const RANDOM_BYTES: usize = ID_BYTES + 32;
const ID_BYTES: usize = 8;

/// How every token begins.
const PREFIX: &str = "m4_";

/// How many tokens may be active at once.
pub const MOST_ACTIVE: usize = 1000;

/// What is stored of a token. A fast hash will do: nobody guesses 256 random bits.
#[derive(Clone)]
pub struct ServiceToken {
    /// The part of the token by which it is found.
    pub id: String,
    /// The name of its holder; several tokens may bear one, so that one can follow another.
    pub name: String,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// Its scopes.
    pub scopes: Scopes,
    /// The fields and groups that its holder may change, with spaces between them; none is all.
    pub fields: Option<String>,
    /// When it was made.
    pub create_time: DateTime<Utc>,
    /// From when on it is not valid; none is for ever.
    pub expire_time: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoke_time: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_time: Option<DateTime<Utc>>,
}

impl ServiceToken {
    /// A new token, and its text, which is kept nowhere.
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

    /// The id in the text of a token; none where it is no token of this kind.
    pub fn id_of(text: &str) -> Option<&str> {
        text.strip_prefix(PREFIX)?.split_once('_').map(|(id, _)| id)
    }

    /// Whether a text is this token, which must be active.
    pub fn proves(&self, text: &str, now: DateTime<Utc>) -> bool {
        let hash: [u8; 32] = Sha256::digest(text).into();
        bool::from(hash.ct_eq(&self.hash)) && self.is_active(now)
    }

    /// Whether it is neither revoked nor expired.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.revoke_time.is_none() && self.expire_time.is_none_or(|end| now < end)
    }

    /// Its holder.
    pub fn holder(&self) -> Identity {
        let fields = self.fields.as_ref().map(|paths| FieldSet::of_paths(paths.split(' ')));
        Identity::new(self.name.clone(), self.scopes, fields)
    }
}

/// The stored tokens. None is ever deleted.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// The tokens that are active, at most [`MOST_ACTIVE`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn active_tokens(&self, now: DateTime<Utc>) -> Result<Vec<ServiceToken>, Error>;

    /// Every token, oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn tokens(&self) -> Result<Vec<ServiceToken>, Error>;

    /// Whether there is a token, active or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn has_tokens(&self) -> Result<bool, Error>;

    /// Stores a new token.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn create_token(&self, token: ServiceToken) -> Result<(), Error>;

    /// Revokes the token of an id, or every one of a name, that is not revoked yet. Answers how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn revoke_tokens(&self, id_or_name: &str, now: DateTime<Utc>) -> Result<u64, Error>;

    /// Notes that a token was used, unless that was noted within the last minute.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn token_used(&self, id: &str, now: DateTime<Utc>) -> Result<(), Error>;
}
