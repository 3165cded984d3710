//! Accounts: who acts, and upon whom.

use chrono::{DateTime, Utc};

use super::value::Values;
use crate::fields::FIELDS;

/// The longest username, in characters.
pub const USERNAME_CHARACTERS: usize = 255;

/// The login name of an account. Compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// Parses a username; `None` if empty, too long or with control characters.
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

/// The type of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountType {
    /// May do everything to every plain user.
    Admin,
    /// May do what the rights of its group allow.
    Manager,
    /// May not act.
    User,
}

impl AccountType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Manager, Self::User];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::User => "user",
        }
    }

    /// The type for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The level of a manager group's right. Each level includes the lower levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// May read.
    Read,
    /// May change.
    Edit,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 2] = [Self::Read, Self::Edit];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Edit => "edit",
        }
    }

    /// The level for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }
}

/// An acting account, with the rights of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActingAccount {
    /// The id.
    pub id: i64,
    /// The type.
    pub account_type: AccountType,
    /// Whether the account is blocked.
    pub blocked: bool,
    /// The level of the group's right `users`; `None` without a group or the right.
    pub users_level: Option<Level>,
    /// Whether a manager may access only users that are assigned to the manager.
    pub show_only_assigned_users: bool,
}

/// An account whose details are read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: i64,
    /// The username.
    pub username: String,
    /// The type.
    pub account_type: AccountType,
    /// Grows by one with every stored change.
    pub version: i64,
    /// The creation time.
    pub create_time: DateTime<Utc>,
    /// When the details were last changed.
    pub update_time: DateTime<Utc>,
    /// The details.
    pub values: Values,
}

impl User {
    /// The etag of the stored version: opaque to callers, different for each user and version.
    pub fn etag(&self) -> String {
        etag(self.id, self.version)
    }

    /// The bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        FIELDS.into_iter().map(|field| self.values[field].text_bytes()).sum()
    }
}

/// The etag of a version of a user.
pub fn etag(user_id: i64, version: i64) -> String {
    format!("{user_id:x}-{version:x}")
}
