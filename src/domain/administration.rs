//! The administration log: who changed settings, tokens, keys and blocks.

use chrono::{DateTime, SecondsFormat, Utc};

/// Who administers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Administrator {
    /// The name of the calling service, or `cli:USER@HOST`; empty without authentication.
    pub identity: String,
    /// The account on whose behalf the caller acts; empty for its own name.
    pub acting_username: String,
    /// The address of the caller; empty on the command line.
    pub address: String,
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A setting of legacy calls.
    Setting,
    /// A service token.
    ServiceToken,
    /// A client key of legacy calls.
    LegacyKey,
    /// A block of legacy calls by an operator.
    LegacyBlock,
    /// The right hash of a legacy call was read.
    LegacyHash,
    /// The epoch of the database.
    Epoch,
}

impl Object {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::ServiceToken => "service_token",
            Self::LegacyKey => "legacy_key",
            Self::LegacyBlock => "legacy_block",
            Self::LegacyHash => "legacy_hash",
            Self::Epoch => "epoch",
        }
    }

    /// Whether the name of the object may contain a username, which is in no log line.
    pub fn has_username(self) -> bool {
        matches!(self, Self::LegacyBlock | Self::LegacyHash)
    }
}

/// One change. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminChange {
    /// The kind of the changed object.
    pub object: Object,
    /// The name or id of the object.
    pub name: String,
    /// The value before; `None` if there was none.
    pub old: Option<String>,
    /// The value after; `None` if there is none.
    pub new: Option<String>,
}

/// An entry of the administration log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminEntry {
    /// The id. Ids grow.
    pub id: i64,
    /// The time of the change.
    pub time: DateTime<Utc>,
    /// Who made the change.
    pub by: Administrator,
    /// The word of an [`Object`], or a word of a newer version.
    pub object: String,
    /// The name or id of the object.
    pub name: String,
    /// The value before.
    pub old: Option<String>,
    /// The value after.
    pub new: Option<String>,
}

/// A time in a value of the log.
pub(super) fn seconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
