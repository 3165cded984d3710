//! Lists in pages: each begins right behind a position, so that a page costs the same wherever it is.

use chrono::{DateTime, Utc};

use super::{
    account::User,
    update::{Change, Origin},
};

/// How a list of users is ordered. Users with the same key follow each other by id.
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

/// An order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub key: OrderKey,
    /// Whether the largest comes first.
    pub descending: bool,
}

/// Where a page begins: right behind this row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The username of the row, where the order is by username; else empty.
    pub username: String,
    /// The time of its last change in microseconds since 1970, where the order is by that; else 0.
    pub update_time: i64,
    /// Its id.
    pub id: i64,
}

impl Cursor {
    /// The position of a user.
    pub fn of(user: &User, key: OrderKey) -> Self {
        let username =
            if key == OrderKey::Username { user.username.clone() } else { String::new() };
        let time =
            if key == OrderKey::UpdateTime { user.update_time.timestamp_micros() } else { 0 };
        Self { username, update_time: time, id: user.id }
    }
}

/// Which users are listed: those to which everything applies that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// How the username begins; empty for every username.
    pub username_prefix: String,
    /// The e-mail address, exactly.
    pub email: Option<String>,
    /// Whether the account is blocked.
    pub blocked: Option<bool>,
    /// Whether the user is hidden.
    pub hidden: Option<bool>,
    /// The responsible manager.
    pub responsible_manager_id: Option<i64>,
    /// When the details were changed last: then or later.
    pub updated_since: Option<DateTime<Utc>>,
}

/// A page of users that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserQuery {
    /// Which users.
    pub filter: UserFilter,
    /// In which order.
    pub order: Order,
    /// Where the page begins; none for the first page.
    pub after: Option<Cursor>,
    /// How many at most, 1 or more.
    pub limit: u64,
    /// No more users are read once their texts have this many bytes.
    pub max_bytes: usize,
}

/// Which entries of the change log are listed: those to which everything applies that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// Who was changed.
    pub user_id: Option<i64>,
    /// The account that changed.
    pub actor_id: Option<i64>,
    /// The service that changed in its own name.
    pub service: Option<String>,
    /// When: then or later.
    pub since: Option<DateTime<Utc>>,
    /// When: before.
    pub until: Option<DateTime<Utc>>,
}

/// A page of the change log that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeQuery {
    /// Which entries.
    pub filter: ChangeFilter,
    /// Whether the newest comes first.
    pub descending: bool,
    /// The entry right behind which the page begins; none for the first page.
    pub after: Option<i64>,
    /// How many at most, 1 or more.
    pub limit: u64,
    /// No more entries are read once their texts have this many bytes.
    pub max_bytes: usize,
}

/// Items in the order of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items, at least one if there is one.
    pub items: Vec<T>,
    /// Whether reading stopped at the maximum of bytes, so there may be more items.
    pub is_cut: bool,
}

/// An entry of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    /// The id of the entry. Ids grow, but entries of several transactions at once may appear out of their order.
    pub id: i64,
    /// Who was changed.
    pub user_id: i64,
    /// The version of the user that the change made.
    pub version: i64,
    /// When.
    pub time: DateTime<Utc>,
    /// The account that changed; none for a service in its own name.
    pub actor_id: Option<i64>,
    /// The service that changed in its own name.
    pub service: Option<String>,
    /// Whence the change came.
    pub origin: Origin,
    /// What changed, as far as this version knows it.
    pub changes: Vec<Change>,
    /// How many changes of the entry this version skips: it does not know their fields or values.
    pub unknown_changes: usize,
}

impl LoggedChange {
    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.changes.len() * size_of::<Change>() + self.text_bytes()
    }

    /// The bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let values =
            self.changes.iter().map(|change| change.old.text_bytes() + change.new.text_bytes());
        values.sum()
    }
}
