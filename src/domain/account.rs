//! Accounts: who acts, and upon whom.

use chrono::{DateTime, Utc};

use super::value::Values;
use crate::fields::FIELDS;

/// The longest username, in characters.
pub const USERNAME_CHARACTERS: usize = 255;

/// The name with which an account logs in. Compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// A username, unless no account can bear it: empty, too long or with control characters.
    pub fn parse(name: &str) -> Option<Self> {
        let possible = !name.is_empty()
            && name.chars().count() <= USERNAME_CHARACTERS
            && !name.chars().any(char::is_control);
        possible.then(|| Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What kind of account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountType {
    /// May do everything to every plain user.
    Admin,
    /// May do what its group's rights say.
    Manager,
    /// May do nothing here.
    User,
}

impl AccountType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Manager, Self::User];

    /// The word for it in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::User => "user",
        }
    }

    /// The type of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// How far a right of a manager group goes. Each level includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// May look.
    Read,
    /// May change.
    Edit,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 2] = [Self::Read, Self::Edit];

    /// The word for it in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
        }
    }

    /// The level of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }
}

/// An account that acts, with what its group may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActingAccount {
    /// Its id.
    pub id: i64,
    /// Its type.
    pub account_type: AccountType,
    /// Whether it is blocked.
    pub blocked: bool,
    /// How far its group's right `users` goes; none without a group or the right.
    pub users_level: Option<Level>,
    /// Whether a manager reaches only users whose responsible manager it is.
    pub show_only_assigned_users: bool,
}

/// An account whose details are read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub username: String,
    /// Its type.
    pub account_type: AccountType,
    /// Grows by one with every stored change.
    pub version: i64,
    /// When it was created.
    pub create_time: DateTime<Utc>,
    /// When its details were last changed.
    pub update_time: DateTime<Utc>,
    /// Its details.
    pub values: Values,
}

impl User {
    /// The etag of the stored version: opaque to callers, different for each user and version.
    pub fn etag(&self) -> String {
        etag(self.id, self.version)
    }

    /// The bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        FIELDS.into_iter().map(|field| self.values[field].text_bytes()).sum()
    }
}

/// The etag of a version of a user.
pub fn etag(user_id: i64, version: i64) -> String {
    format!("{user_id:x}-{version:x}")
}
