//! The columns of `accounts` that hold the details of users.
//!
//! A test of the service compares this list with the field table. To add a field, see `README.md`.

use sea_orm_migration::sea_query::ColumnDef;

use crate::columns::{flag, millionths, number, text};

/// A column, and the values that its field allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The path of the field in the change log. Its last part is the name of the column.
    pub path: &'static str,
    /// The allowed values.
    pub kind: DetailKind,
}

/// The values that a column may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetailKind {
    /// NULL, or the id of a row of this table.
    Id(&'static str),
    /// 0 or more.
    Count,
    /// 1 to 23, or -1.
    Hour,
    /// True or false.
    Flag,
    /// At most 255 characters, without control characters except tab, CR and LF.
    Text,
    /// Like [`Self::Text`], but at most 65,535 bytes.
    Comment,
    /// Empty, or 2 to 10 letters, `-` or `_`.
    Language,
    /// Empty, or an e-mail address.
    Email,
    /// Millionths: at most 12 digits before the point.
    Decimal {
        /// Whether it may be below zero.
        negative: bool,
    },
    /// `no`, `blacklist` or `whitelist`.
    List {
        /// The column with the id of the number pool. Only `no` needs no pool.
        pool: &'static str,
    },
    /// NULL, or a day of the years 1900 to 9999.
    Date,
}

macro_rules! details {
    ($($path:literal: $kind:expr,)*) => {
        /// The details, in the order of the columns.
        pub const DETAILS: &[Detail] = &[$(Detail { path: $path, kind: $kind },)*];
    };
}

use DetailKind::{Comment, Count, Date, Decimal, Email, Flag, Hour, Id, Language, List, Text};

details! {
    "general.currency_id": Id("currencies"),
    "general.call_limit": Count,
    "general.hidden": Flag,
    "general.responsible_manager_id": Id("accounts"),
    "general.hide_non_answered_calls": Flag,
    "blocking.blocked": Flag,
    "blocking.block_date": Date,
    "blocking.block_conditional_use": Flag,
    "details.vat_number": Text,
    "details.clientid": Text,
    "details.first_name": Text,
    "details.last_name": Text,
    "details.accounting_number": Text,
    "details.agreement_number": Text,
    "details.language": Language,
    "details.agreement_date": Date,
    "details.taxation_country": Id("directions"),
    "address.address": Text,
    "address.city": Text,
    "address.postcode": Text,
    "address.county": Text,
    "address.state": Text,
    "address.mob_phone": Text,
    "address.phone": Text,
    "address.fax": Text,
    "address.direction_id": Id("directions"),
    "address.email": Email,
    "warning_balance.warning_email_active": Flag,
    "warning_balance.warning_email_balance": Decimal { negative: true },
    "warning_balance.warning_email_hour": Hour,
    "taxes.tax1_name": Text,
    "taxes.tax2_name": Text,
    "taxes.tax3_name": Text,
    "taxes.tax4_name": Text,
    "taxes.tax1_value": Decimal { negative: false },
    "taxes.tax2_value": Decimal { negative: false },
    "taxes.tax3_value": Decimal { negative: false },
    "taxes.tax4_value": Decimal { negative: false },
    "taxes.tax2_enabled": Flag,
    "taxes.tax3_enabled": Flag,
    "taxes.tax4_enabled": Flag,
    "invoices.generate_invoice": Flag,
    "lists.enable_static_source_list": List { pool: "static_source_list_id" },
    "lists.enable_static_list": List { pool: "static_list_id" },
    "lists.static_source_list_id": Id("number_pools"),
    "lists.static_list_id": Id("number_pools"),
    "comment.comment": Comment,
}

impl Detail {
    /// The name of the column.
    pub fn column(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The column of the table `accounts`.
    pub(crate) fn definition(&self) -> ColumnDef {
        let name = self.column();
        match self.kind {
            Id(_) => ColumnDef::new(name).big_integer().take(),
            Count => number(name, 0),
            Hour => number(name, -1),
            Flag => flag(name),
            Text | Email => text(name, 255),
            Language => text(name, 10),
            // At most 65,535 bytes: the size of MariaDB's TEXT. MySQL allows no default for TEXT.
            Comment => ColumnDef::new(name).text().not_null().take(),
            Decimal { .. } => millionths(name),
            List { .. } => ColumnDef::new(name).string_len(16).not_null().default("no").take(),
            Date => ColumnDef::new(name).date().take(),
        }
    }
}
