//! The filter and the start of a subscription.

use chrono::{DateTime, Utc};

use super::Position;
use crate::domain::{
    listing::LoggedChange, rules::Visibility, scope::FieldSet, update::EntryPoint,
};

/// The entries of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// One user; `None` for all.
    pub user_id: Option<i64>,
    /// Only users within this visibility.
    pub visibility: Visibility,
    /// Only these entries.
    pub entries: EntryFilter,
}

/// The properties of entries. All given properties must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Only entries that change one of these fields; `None` for all. A field of a newer version
    /// matches.
    pub fields: Option<FieldSet>,
    /// Only entries with one of these entry points; empty for all.
    pub doors: Vec<EntryPoint>,
    /// No entries of these services and keys.
    pub except_identities: Vec<String>,
    /// No entries before this time.
    pub since: Option<DateTime<Utc>>,
}

impl EntryFilter {
    /// Whether an entry has the properties.
    pub fn matches(&self, entry: &LoggedChange) -> bool {
        let has_field = |fields: FieldSet| {
            entry.unknown_changes > 0 || entry.changes.iter().any(|change| fields.has(change.field))
        };
        self.fields.is_none_or(has_field)
            && (self.doors.is_empty() || self.doors.contains(&entry.origin.door))
            && self.since.is_none_or(|since| entry.time >= since)
            && !self.except_identities.contains(&entry.origin.identity)
    }
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// Behind all present entries.
    Now,
    /// At the position of a resume token.
    Position(Position),
    /// At the earliest entry.
    Earliest,
    /// Behind an entry.
    After(i64),
    /// At the first entry of this time or later.
    Since(DateTime<Utc>),
}
