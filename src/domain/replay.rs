//! Compares users with their change log.

use std::collections::BTreeMap;

use super::{
    account::{User, Username},
    epoch::VERSIONS_PER_EPOCH,
    listing::LoggedChange,
    value::{ListMode, Value},
};
use crate::fields::{FIELDS, Field, Kind};

/// The kind of a contradiction in the stored data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefectKind {
    /// The value of the row is not the newest value in the change log.
    Differs,
    /// The version of the row is not that of the newest entry.
    VersionDiffers,
    /// The account of an entry does not exist.
    NoAccount,
    /// The field does not allow the value.
    NotAllowed,
    /// The row that the field refers to does not exist.
    BrokenReference,
    /// This version cannot read the row, or a change in it.
    Unreadable,
}

impl DefectKind {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::VersionDiffers => "version_differs",
            Self::NoAccount => "no_account",
            Self::NotAllowed => "not_allowed",
            Self::BrokenReference => "broken_reference",
            Self::Unreadable => "unreadable",
        }
    }

    /// The end of a sentence that begins with the row and the field.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Differs => "is not the newest value in the change log",
            Self::VersionDiffers => "is not the version of the newest entry of the change log",
            Self::NoAccount => "names an account that does not exist",
            Self::NotAllowed => "holds a value that the field does not allow",
            Self::BrokenReference => "refers to a row that does not exist or may not be named",
            Self::Unreadable => "cannot be read by this version",
        }
    }
}

/// A contradiction in the stored data. Contains no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// The kind.
    pub kind: DefectKind,
    /// The table.
    pub table: &'static str,
    /// The id of the row.
    pub id: i64,
    /// The path of the field, or the column; empty for the whole row.
    pub field: String,
}

impl Defect {
    /// A defect of a row of `accounts`.
    pub fn of_account(kind: DefectKind, id: i64, field: impl Into<String>) -> Self {
        Self { kind, table: "accounts", id, field: field.into() }
    }

    /// A defect of an entry of the change log.
    pub fn of_entry(kind: DefectKind, id: i64, field: impl Into<String>) -> Self {
        Self { kind, table: "change_log", id, field: field.into() }
    }
}

/// The newest values in the change log of one user. Needs the entries in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    newest: BTreeMap<Field, Value>,
    version: Option<i64>,
}

impl Replay {
    /// Adds an entry.
    pub fn add(&mut self, entry: LoggedChange) {
        self.version = Some(entry.version);
        self.newest.extend(entry.changes.into_iter().map(|change| (change.field, change.new)));
    }

    /// Compares the user's row. Expired entries may be deleted: a field without an entry matches.
    pub fn compare(&self, user: &User, report: &mut (dyn FnMut(Defect) + Send)) {
        // A new epoch changes the version of the row alone.
        let differs = |version| (user.version - version) % VERSIONS_PER_EPOCH != 0;
        if self.version.is_some_and(differs) {
            report(Defect::of_account(DefectKind::VersionDiffers, user.id, "version"));
        }
        for (field, value) in &self.newest {
            if *value != user.values[*field] {
                report(Defect::of_account(DefectKind::Differs, user.id, field.path()));
            }
        }
    }
}

/// Reports the values of a row that no field allows.
pub fn check_values(user: &User, report: &mut (dyn FnMut(Defect) + Send)) {
    let mut not_allowed =
        |field: &str| report(Defect::of_account(DefectKind::NotAllowed, user.id, field));
    if Username::parse(&user.username).is_none() {
        not_allowed("username");
    }
    for field in FIELDS {
        let value = &user.values[field];
        let lacks_pool = match field.kind() {
            Kind::List { pool } => {
                *value != Value::List(ListMode::No) && user.values[pool] == Value::None
            }
            _ => false,
        };
        if !value.fits(field) || lacks_pool {
            not_allowed(field.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    #[test]
    fn a_field_holds_only_values_that_a_caller_could_set() {
        let date = |year| Value::Date(NaiveDate::from_ymd_opt(year, 1, 1).unwrap());
        let text = |text: &str| Value::Text(text.to_owned());
        for (field, value, fits) in [
            (Field::currency_id, Value::Id(1), true),
            (Field::currency_id, Value::Id(0), false),
            (Field::currency_id, text("1"), false),
            (Field::call_limit, Value::Integer(0), true),
            (Field::call_limit, Value::Integer(-1), false),
            (Field::warning_email_hour, Value::Integer(24), false),
            (Field::hidden, Value::Flag(true), true),
            (Field::block_date, Value::None, true),
            (Field::block_date, date(1900), true),
            (Field::block_date, date(1899), false),
            (Field::city, text("Bonn\t"), true),
            (Field::city, text("\u{1}"), false),
            (Field::city, text(&"x".repeat(256)), false),
            (Field::email, text("a@b"), true),
            (Field::email, text("a b"), false),
            (Field::tax1_value, Value::Micros(1), true),
            (Field::tax1_value, Value::Micros(-1), false),
            (Field::tax1_value, Value::Micros(i64::MAX), false),
            (Field::tax1_value, text("1"), false),
            (Field::warning_email_balance, Value::Micros(-1_500_000), true),
            (Field::enable_static_list, Value::List(ListMode::No), true),
            (Field::enable_static_list, Value::None, false),
        ] {
            assert_eq!(value.fits(field), fits, "{} {value:?}", field.path());
        }
        for field in FIELDS {
            assert!(Value::cleared(field).fits(field));
        }
    }
}
