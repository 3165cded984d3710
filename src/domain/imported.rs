//! The rows that an import brings in, without their defaults.

use super::{
    account::{AccountType, Level, User, Username},
    value::{Value, Values},
};
use crate::fields::Field;

/// A table of ids and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamedTable {
    /// Currencies.
    Currencies,
    /// Directions: countries.
    Directions,
    /// Number pools.
    NumberPools,
    /// Groups of managers.
    ManagerGroups,
}

impl NamedTable {
    /// Every table.
    pub const ALL: [Self; 4] =
        [Self::Currencies, Self::Directions, Self::NumberPools, Self::ManagerGroups];

    /// The name of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Currencies => "currencies",
            Self::Directions => "directions",
            Self::NumberPools => "number_pools",
            Self::ManagerGroups => "manager_groups",
        }
    }

    /// The longest name, in characters.
    pub fn max_name(self) -> usize {
        match self {
            Self::Currencies => 3,
            Self::Directions | Self::NumberPools | Self::ManagerGroups => 255,
        }
    }
}

/// A row of a [`NamedTable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRow {
    /// The id, 1 or more.
    pub id: i64,
    /// The name, unique in its table.
    pub name: String,
}

/// A right of a manager group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRight {
    /// The id of the group.
    pub manager_group_id: i64,
    /// The name of the right, such as `users`.
    pub name: String,
    /// The level.
    pub level: Level,
}

/// An account of a source. Columns that the source does not have are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedAccount {
    /// The id, 1 or more.
    pub id: i64,
    /// The username.
    pub username: Username,
    /// The type.
    pub account_type: Option<AccountType>,
    /// The group of a manager.
    pub manager_group_id: Option<Option<i64>>,
    /// Whether a manager may access only users that are assigned to the manager.
    pub show_only_assigned_users: Option<bool>,
    /// The details, in the order of the field table.
    pub details: Vec<(Field, Value)>,
}

impl ImportedAccount {
    /// All values. A field that the source does not have keeps its value in `values`.
    pub fn values(&self, mut values: Values) -> Values {
        for (field, value) in &self.details {
            values[*field] = value.clone();
        }
        values
    }
}

/// A stored account with the columns that no detail has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccount {
    /// The account and its details.
    pub user: User,
    /// The group of a manager.
    pub manager_group_id: Option<i64>,
    /// Whether a manager may access only users that are assigned to the manager.
    pub show_only_assigned_users: bool,
}

/// Why the database refused a new row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// Another row has the id or the name.
    Unique,
    /// A row that it refers to does not exist.
    Reference,
}
