//! Who calls the typed API, and what it may do: tokens, JWTs and whatever else proves a caller come to an [`Identity`].

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use super::{
    account::Username,
    acting::Acting,
    error::{Error, NotPermitted},
    update::Actor,
};
use crate::fields::{FIELDS, Field};

/// The account as which a caller that proves nothing acts, where nothing need be proved.
const OPEN_ACCOUNT: &str = "admin";

/// The longest name of an identity, in characters: what the change log holds.
pub const NAME_CHARACTERS: usize = 255;

/// What an identity may do: a scope of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Read users and the change log, as an account that it names.
    Read,
    /// Change users, as an account that it names.
    Update,
    /// Read and change settings, as an account that it names.
    Settings,
    /// All of it, in its own name too and then with an admin's rights.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Read, Self::Update, Self::Settings, Self::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Settings => "settings",
            Self::Admin => "admin",
        }
    }

    /// The scope of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// The scopes of an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes([bool; Scope::ALL.len()]);

impl Scopes {
    /// Whether a scope is among them, or [`Scope::Admin`].
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

/// The words, with a space between them.
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
    /// The fields that paths mean: fields, groups or `*`. Paths that mean none are passed over, so that they allow nothing.
    pub fn of_paths<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = [false; FIELDS.len()];
        for path in paths {
            let meant = FIELDS.into_iter().filter(|field| field.is_within(path));
            meant.for_each(|field| set[field as usize] = true);
        }
        Self(set)
    }

    /// Whether a field is among them.
    pub fn has(&self, field: Field) -> bool {
        self.0[field as usize]
    }
}

/// A caller of the typed API that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    scopes: Scopes,
    fields: Option<FieldSet>,
    own: Option<Actor>,
}

impl Identity {
    /// A service. Without `fields` it may change every field.
    pub fn new(name: String, scopes: Scopes, fields: Option<FieldSet>) -> Self {
        let own = scopes.allow(Scope::Admin).then(|| Actor::Service(name.clone()));
        Self { name, scopes, fields, own }
    }

    /// Whoever calls where nothing need be proved: may do everything, and acts as an account where it names none.
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

    /// Whether a name can be that of an identity: some text that the change log can hold, without control characters.
    pub fn is_name(name: &str) -> bool {
        (1..=NAME_CHARACTERS).contains(&name.chars().count()) && !name.chars().any(char::is_control)
    }

    /// Its name, which stands in the change log for changes in its own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields that it may change; none is all.
    pub fn fields(&self) -> Option<FieldSet> {
        self.fields
    }

    /// Who acts in a call that takes a scope: the account that is named, or the identity in its own name.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] where the identity lacks the scope, or names no account and may not act in its own name.
    pub fn actor(&self, scope: Scope, acting_username: &str) -> Result<Actor, Error> {
        if !self.scopes.allow(scope) {
            return Err(NotPermitted::Scope(scope).into());
        }
        if !acting_username.is_empty() {
            return Ok(Actor::Account(Username::parse(acting_username)));
        }
        if let Some(Actor::Service(name)) = &self.own {
            Acting::current().tell_service(name);
        }
        self.own.clone().ok_or_else(|| NotPermitted::OwnName.into())
    }
}
