//! The tables of an import and their columns.

use crate::{
    domain::imported::NamedTable,
    fields::{FIELDS, Field},
};

/// A table that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Named(NamedTable),
    GroupRights,
    Accounts,
}

/// A column of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Id,
    Name,
    Level,
    Username,
    AccountType,
    ManagerGroupId,
    ShowOnlyAssignedUsers,
    Detail(Field),
}

impl Table {
    /// Every table. A table is after the tables that it refers to.
    pub(crate) const ALL: [Self; 6] = [
        Self::Named(NamedTable::Currencies),
        Self::Named(NamedTable::Directions),
        Self::Named(NamedTable::NumberPools),
        Self::Named(NamedTable::ManagerGroups),
        Self::GroupRights,
        Self::Accounts,
    ];

    /// The name of the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Named(table) => table.as_str(),
            Self::GroupRights => "manager_group_rights",
            Self::Accounts => "accounts",
        }
    }

    /// The column of a source with a name.
    pub(crate) fn column(self, name: &str) -> Option<Column> {
        Some(match (self, name) {
            (Self::Named(_) | Self::Accounts, "id") => Column::Id,
            (Self::Named(_) | Self::GroupRights, "name") => Column::Name,
            (Self::GroupRights, "level") => Column::Level,
            (Self::GroupRights | Self::Accounts, "manager_group_id") => Column::ManagerGroupId,
            (Self::Accounts, "username") => Column::Username,
            (Self::Accounts, "account_type") => Column::AccountType,
            (Self::Accounts, "show_only_assigned_users") => Column::ShowOnlyAssignedUsers,
            (Self::Accounts, name) => {
                Column::Detail(FIELDS.into_iter().find(|field| field.name() == name)?)
            }
            _ => return None,
        })
    }

    /// The columns that every source needs.
    fn required(self) -> &'static [Column] {
        match self {
            Self::Named(_) => &[Column::Id, Column::Name],
            Self::GroupRights => &[Column::ManagerGroupId, Column::Name, Column::Level],
            Self::Accounts => &[Column::Id, Column::Username],
        }
    }

    /// The columns with these names, or the problem.
    pub(crate) fn columns(self, names: &[String]) -> Result<Vec<Column>, String> {
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let column = self.column(name);
            let column = column.ok_or_else(|| format!("there is no column {name:?}"))?;
            if columns.contains(&column) {
                return Err(format!("the column {name:?} is there twice"));
            }
            columns.push(column);
        }
        match self.required().iter().find(|column| !columns.contains(column)) {
            Some(missing) => Err(format!("the column {:?} is missing", missing.name())),
            None => Ok(columns),
        }
    }
}

impl Column {
    /// The name of the column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Level => "level",
            Self::Username => "username",
            Self::AccountType => "account_type",
            Self::ManagerGroupId => "manager_group_id",
            Self::ShowOnlyAssignedUsers => "show_only_assigned_users",
            Self::Detail(field) => field.name(),
        }
    }
}
