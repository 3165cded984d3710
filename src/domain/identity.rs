//! Who calls the typed API, and with which rights. Every authentication yields an [`Identity`].

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use super::{
    account::Username,
    error::{Error, NotPermitted},
    update::Actor,
};
use crate::fields::{FIELDS, Field};

/// The acting account of callers when authentication is off.
const OPEN_ACCOUNT: &str = "admin";

/// The longest name of an identity, in characters: the limit of the change log.
pub const NAME_CHARACTERS: usize = 255;

/// A scope of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Read users and the change log, as a named account.
    Read,
    /// Change users, as a named account.
    Update,
    /// Read and change settings, as a named account.
    Settings,
    /// All scopes, also in its own name with an admin's rights.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Read, Self::Update, Self::Settings, Self::Admin];

    /// The word for the scope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Settings => "settings",
            Self::Admin => "admin",
        }
    }

    /// The scope for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// The scopes of an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes([bool; Scope::ALL.len()]);

impl Scopes {
    /// Whether the scopes include a scope or [`Scope::Admin`].
    pub fn allow(self, scope: Scope) -> bool {
        self.0[scope as usize] || self.0[Scope::Admin as usize]
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut all = Self::default();
        scopes.into_iter().for_each(|scope| all.0[scope as usize] = true);
        all
    }
}

/// The words, separated by spaces.
impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = Scope::ALL.into_iter().filter(|scope| self.0[*scope as usize]);
        let words: Vec<_> = given.map(Scope::as_str).collect();
        formatter.write_str(&words.join(" "))
    }
}

/// The fields that an identity may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSet([bool; FIELDS.len()]);

impl FieldSet {
    /// The fields that paths cover: fields, groups or `*`. Unknown paths allow nothing.
    pub fn of_paths<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = [false; FIELDS.len()];
        for path in paths {
            let meant = FIELDS.into_iter().filter(|field| field.is_within(path));
            meant.for_each(|field| set[field as usize] = true);
        }
        Self(set)
    }

    /// Whether a field is in the set.
    pub fn has(&self, field: Field) -> bool {
        self.0[field as usize]
    }
}

/// An authenticated caller of the typed API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    scopes: Scopes,
    fields: Option<FieldSet>,
    own: Option<Actor>,
}

impl Identity {
    /// A service. Without `fields`, the service may change every field.
    pub fn new(name: String, scopes: Scopes, fields: Option<FieldSet>) -> Self {
        let own = scopes.allow(Scope::Admin).then(|| Actor::Service(name.clone()));
        Self { name, scopes, fields, own }
    }

    /// The caller when authentication is off. May do everything; the default account is `admin`.
    pub fn open() -> Arc<Self> {
        static OPEN: LazyLock<Arc<Identity>> = LazyLock::new(|| {
            Arc::new(Identity {
                name: String::new(),
                scopes: Scope::ALL.into_iter().collect(),
                fields: None,
                own: Some(Actor::Account(Username::parse(OPEN_ACCOUNT))),
            })
        });
        Arc::clone(&OPEN)
    }

    /// Whether a text can name an identity: 1 to 255 characters, no control characters.
    pub fn is_name(name: &str) -> bool {
        (1..=NAME_CHARACTERS).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    }

    /// The name. The change log shows the name for changes in the identity's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields that the identity may change; `None` for all.
    pub fn fields(&self) -> Option<FieldSet> {
        self.fields
    }

    /// The actor of a call that requires a scope: the named account, or the identity itself.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] if the identity lacks the scope, or if the call names no account and
    /// the identity may not act in its own name.
    pub fn actor(&self, scope: Scope, acting_username: &str) -> Result<Actor, Error> {
        if !self.scopes.allow(scope) {
            return Err(NotPermitted::Scope(scope).into());
        }
        if !acting_username.is_empty() {
            return Ok(Actor::Account(Username::parse(acting_username)));
        }
        self.own.clone().ok_or_else(|| NotPermitted::OwnName.into())
    }
}
