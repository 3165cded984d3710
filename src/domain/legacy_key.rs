//! Client keys: secret keys of legacy calls that belong to one client each, and are bound to what the
//! client needs.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use super::{
    administration::seconds,
    hash::Recipe,
    master_key::{MasterKeys, SealError, Sealed},
    scope::FieldSet,
};
use crate::{credentials::LegacyCredentials, fields::Field, networks::Networks};

/// Random bytes of a new key: the id, then the secret.
pub const RANDOM_BYTES: usize = ID_BYTES + 20;
const ID_BYTES: usize = 8;

/// Maximum number of active client keys: a wrong hash is compared with each of them.
pub const MAX_ACTIVE_KEYS: usize = 2000;

/// A stored client key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyKey {
    /// The id: 16 hexadecimal digits.
    pub id: String,
    /// The name of the client. Several keys may share a name, which allows rotation.
    pub name: String,
    /// The sealed secret.
    pub secret: Sealed,
    /// What the key is bound to.
    pub bindings: Bindings,
    /// The creation time.
    pub create_time: DateTime<Utc>,
    /// When the key expires; `None` for never.
    pub expire_time: Option<DateTime<Utc>>,
    /// When the key was revoked.
    pub revoke_time: Option<DateTime<Utc>>,
}

/// What a key is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// The only `u` of its calls; `None` for any.
    pub username: Option<String>,
    /// The networks of its client; empty for all.
    pub networks: Networks,
    /// The fields and groups that it may change, separated by spaces; `None` for all.
    pub fields: Option<String>,
    /// The recipes of its hashes. `None`: the settings decide.
    pub recipes: Option<Vec<Recipe>>,
}

/// A binding that refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Binding {
    /// The client's address is in none of the networks.
    #[error("the key is not allowed from this address")]
    Networks,
    /// Another `u`.
    #[error("the key is bound to another `u`")]
    Username,
    /// A field that the key may not change.
    #[error("the key may not change `{}`", .0.path())]
    Field(Field),
}

impl Binding {
    /// The rule for the log line.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Networks => "key_networks",
            Self::Username => "key_username",
            Self::Field(_) => "key_fields",
        }
    }
}

impl LegacyKey {
    /// Creates a key and its secret. The secret is stored sealed only.
    ///
    /// # Errors
    /// The errors of [`MasterKeys::seal`].
    pub fn new(
        random: [u8; RANDOM_BYTES],
        masters: &MasterKeys,
        name: String,
        bindings: Bindings,
        create_time: DateTime<Utc>,
        expire_time: Option<DateTime<Utc>>,
    ) -> Result<(SecretString, Self), SealError> {
        let (id, secret) = random.split_at(ID_BYTES);
        let (id, text) = (hex::encode(id), SecretString::from(hex::encode(secret)));
        let secret = masters.seal(&id, &text)?;
        let revoke_time = None;
        Ok((text, Self { id, name, secret, bindings, create_time, expire_time, revoke_time }))
    }

    /// Whether the key is neither revoked nor expired.
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.revoke_time.is_none() && self.expire_time.is_none_or(|end| now < end)
    }
}

/// For the administration log: no secret.
impl fmt::Display for LegacyKey {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "name={}", self.name)?;
        let Bindings { username, networks, fields, recipes } = &self.bindings;
        username.iter().try_for_each(|username| write!(text, " username={username}"))?;
        if !networks.is_empty() {
            write!(text, " networks={networks}")?;
        }
        fields.iter().try_for_each(|fields| write!(text, " fields={fields}"))?;
        if let Some(recipes) = recipes {
            write!(text, " recipes={}", Recipe::joined(recipes))?;
        }
        self.expire_time.iter().try_for_each(|time| write!(text, " expires={}", seconds(*time)))
    }
}

/// A client key that is ready for use.
#[derive(Debug)]
pub struct ClientKey {
    /// The id of the key.
    pub(super) id: String,
    /// The name of the client.
    pub name: String,
    pub(super) secret: SecretString,
    pub(super) recipes: Option<Vec<Recipe>>,
    expire_time: Option<DateTime<Utc>>,
    username: Option<String>,
    networks: Networks,
    fields: Option<FieldSet>,
}

impl ClientKey {
    /// Opens a stored key.
    ///
    /// # Errors
    /// The errors of [`MasterKeys::open`].
    pub fn open(key: &LegacyKey, masters: &MasterKeys) -> Result<Self, SealError> {
        Ok(Self::with_secret(key, masters.open(&key.id, &key.secret)?))
    }

    /// A stored key with its opened secret.
    pub fn with_secret(key: &LegacyKey, secret: SecretString) -> Self {
        let Bindings { username, networks, fields, recipes } = key.bindings.clone();
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            secret,
            recipes,
            expire_time: key.expire_time,
            username,
            networks,
            fields: fields.map(|paths| FieldSet::of_paths(paths.split(' '))),
        }
    }

    /// Whether the key has not expired.
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.expire_time.is_none_or(|end| now < end)
    }

    /// Whether the key is for this `u`.
    pub fn is_for(&self, username: &str) -> bool {
        self.username.as_ref().is_none_or(|own| own == username)
    }

    /// Checks the bindings of a call other than its fields.
    ///
    /// # Errors
    /// [`Binding::Networks`], [`Binding::Username`].
    pub fn permit(&self, credentials: &LegacyCredentials) -> Result<(), Binding> {
        if !self.networks.admit(&credentials.address) {
            return Err(Binding::Networks);
        }
        if !self.is_for(&credentials.username) {
            return Err(Binding::Username);
        }
        Ok(())
    }
}

/// The key that a hash was made with.
#[derive(Clone, Debug)]
pub enum MatchedKey {
    /// The current secret key of the configuration.
    Default,
    /// A previous secret key of the configuration.
    Previous,
    /// A client key.
    Client(Arc<ClientKey>),
}

impl MatchedKey {
    /// The name in the change log.
    pub fn name(&self) -> &str {
        match self {
            Self::Default => "default",
            Self::Previous => "previous",
            Self::Client(key) => &key.name,
        }
    }

    /// Whether the key accepts hashes by a recipe. `accepted` are the recipes of the settings.
    pub fn accepts(&self, recipe: Recipe, accepted: &[Recipe]) -> bool {
        let own = match self {
            Self::Default | Self::Previous => None,
            Self::Client(key) => key.recipes.as_deref(),
        };
        own.unwrap_or(accepted).contains(&recipe)
    }

    /// The fields that the key may change; `None` for all.
    pub fn fields(&self) -> Option<FieldSet> {
        match self {
            Self::Default | Self::Previous => None,
            Self::Client(key) => key.fields,
        }
    }
}
