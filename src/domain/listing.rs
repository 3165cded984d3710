//! Lists in pages. A page begins behind a cursor, so every page costs the same.

use chrono::{DateTime, Utc};

use super::{
    account::User,
    update::{Change, Origin},
};

/// Rows per read, where a whole table is read.
pub const ROWS_PER_READ: u64 = 1000;

/// The sort key of a list of users. The id breaks ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderKey {
    /// By id.
    #[default]
    Id,
    /// By username, byte by byte.
    Username,
    /// By the time of the last change.
    UpdateTime,
}

/// A sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The sort key.
    pub key: OrderKey,
    /// Whether the largest key comes first.
    pub descending: bool,
}

/// The row behind which a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The username of the row if the order is by username; else empty.
    pub username: String,
    /// The row's update time in microseconds since 1970 if the order is by update time; else 0.
    pub update_time: i64,
    /// The id of the row.
    pub id: i64,
}

impl Cursor {
    /// The cursor of a row.
    pub fn of(row: &ListedUser, key: OrderKey) -> Self {
        let (username, update_time, id) = match row {
            ListedUser::User(user) => {
                (&user.username, user.update_time.timestamp_micros(), user.id)
            }
            ListedUser::Unreadable(UnreadableUser { place, .. }) => {
                (&place.username, place.update_time, place.id)
            }
        };
        let username = if key == OrderKey::Username { username.clone() } else { String::new() };
        let update_time = if key == OrderKey::UpdateTime { update_time } else { 0 };
        Self { username, update_time, id }
    }
}

/// A row of a list of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedUser {
    /// A readable row.
    User(User),
    /// A row that holds an impossible value.
    Unreadable(UnreadableUser),
}

impl ListedUser {
    /// The bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::User(user) => user.text_bytes(),
            Self::Unreadable(UnreadableUser { place, field }) => place.username.len() + field.len(),
        }
    }
}

/// A user whose row holds an impossible value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableUser {
    /// The id, the username and the update time.
    pub place: Cursor,
    /// The path of the field, or the column; empty if unknown.
    pub field: String,
}

/// The filters of a list of users. All given filters must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// The prefix of the username; empty for all.
    pub username_prefix: String,
    /// The exact e-mail address.
    pub email: Option<String>,
    /// Whether the account is blocked.
    pub blocked: Option<bool>,
    /// Whether the user is hidden.
    pub hidden: Option<bool>,
    /// The responsible manager.
    pub responsible_manager_id: Option<i64>,
    /// The earliest time of the last change, inclusive.
    pub updated_since: Option<DateTime<Utc>>,
}

/// A request for a page of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserQuery {
    /// The filter.
    pub filter: UserFilter,
    /// The order.
    pub order: Order,
    /// The cursor; `None` for the first page.
    pub after: Option<Cursor>,
    /// The maximum number of users, 1 or more.
    pub limit: u64,
    /// Reading stops once the texts have this many bytes.
    pub max_bytes: usize,
}

/// The filters of the change log. All given filters must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// The changed user.
    pub user_id: Option<i64>,
    /// The acting account.
    pub actor_id: Option<i64>,
    /// The service that acted in its own name.
    pub service: Option<String>,
    /// The earliest time, inclusive.
    pub since: Option<DateTime<Utc>>,
    /// The latest time, exclusive.
    pub until: Option<DateTime<Utc>>,
}

/// A request for a page of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeQuery {
    /// The filter.
    pub filter: ChangeFilter,
    /// Whether the newest comes first.
    pub descending: bool,
    /// The entry behind which the page begins; `None` for the first page.
    pub after: Option<i64>,
    /// The maximum number of entries, 1 or more.
    pub limit: u64,
    /// Reading stops once the texts have this many bytes.
    pub max_bytes: usize,
}

/// Items in the order of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items: at least one if any exists.
    pub items: Vec<T>,
    /// Whether the byte limit ended reading, so more items may follow.
    pub is_cut: bool,
}

/// An entry of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    /// The id of the entry. Ids grow, but concurrent transactions may commit out of order.
    pub id: i64,
    /// The changed user.
    pub user_id: i64,
    /// The user's version after the change.
    pub version: i64,
    /// The time of the change.
    pub time: DateTime<Utc>,
    /// The acting account; `None` for a service in its own name.
    pub actor_id: Option<i64>,
    /// The service that acted in its own name.
    pub service: Option<String>,
    /// The origin of the change.
    pub origin: Origin,
    /// The changes that this version knows.
    pub changes: Vec<Change>,
    /// The number of changes with a field or value that this version does not know.
    pub unknown_changes: usize,
}

impl LoggedChange {
    /// The approximate memory, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.changes.len() * size_of::<Change>() + self.text_bytes()
    }

    /// The bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        let values =
            self.changes.iter().map(|change| change.old.text_bytes() + change.new.text_bytes());
        values.sum()
    }
}
