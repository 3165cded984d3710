//! What a token allows: its scopes, and the fields that it may change.

use std::fmt;

use crate::fields::{FIELDS, Field};

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

impl Default for FieldSet {
    /// No field.
    fn default() -> Self {
        Self([false; FIELDS.len()])
    }
}

impl FromIterator<Field> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        let mut set = Self::default();
        fields.into_iter().for_each(|field| set.0[field as usize] = true);
        set
    }
}

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

    /// Adds the fields of another set.
    pub fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }

    /// The fields of the set.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        FIELDS.into_iter().filter(move |field| self.has(*field))
    }

    /// Whether a field is in the set.
    pub fn has(&self, field: Field) -> bool {
        self.0[field as usize]
    }
}
