//! The columns of `accounts` that hold the details of users, from the field table.

use m4_user_details_fields::{FIELDS, Kind, Reference};
use sea_orm_migration::sea_query::ColumnDef;

use crate::columns::{flag, millionths, number, text};

/// A column of a detail, and the values that its field allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The path of the field in the change log. Its last part is the name of the column.
    pub path: &'static str,
    /// The allowed values.
    pub kind: Kind,
}

/// The details, in the order of the field table.
pub fn details() -> Vec<Detail> {
    FIELDS.map(|field| Detail { path: field.path(), kind: field.kind() }).to_vec()
}

impl Detail {
    /// The name of the column.
    pub fn column(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The table that the column refers to.
    pub(crate) fn target(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Id(Reference::Currency) => Some("currencies"),
            Kind::Id(Reference::Direction) => Some("directions"),
            Kind::Id(Reference::Manager) => Some("accounts"),
            Kind::Id(Reference::NumberPool) => Some("number_pools"),
            _ => None,
        }
    }

    /// The column of the table `accounts`.
    pub(crate) fn definition(&self) -> ColumnDef {
        let name = self.column();
        match self.kind {
            Kind::Id(_) => ColumnDef::new(name).big_integer().take(),
            Kind::Count => number(name, 0),
            Kind::Hour => number(name, -1),
            Kind::Flag { .. } => flag(name),
            Kind::Text | Kind::Email => text(name, 255),
            Kind::Language => text(name, 10),
            // At most 65,535 bytes: the size of MariaDB's TEXT. MySQL allows no default for TEXT.
            Kind::Comment => ColumnDef::new(name).text().not_null().take(),
            Kind::Decimal { .. } => millionths(name),
            Kind::List { .. } => {
                ColumnDef::new(name).string_len(16).not_null().default("no").take()
            }
            Kind::Date { .. } => ColumnDef::new(name).date().take(),
        }
    }
}
