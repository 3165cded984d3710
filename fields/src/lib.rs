//! The field table: every detail of a user, once.
//!
//! A row holds a field's group, name and kind of value. The name is the proto field, the legacy
//! parameter and the column. Paths, parameters, limits, messages, conversions and the order of
//! messages are derived from the table. This crate is a leaf: every layer and the migrations import it.

pub mod text;

/// Passes the rows to the macro `$callback`. Responses list messages in the order of the rows.
#[macro_export]
macro_rules! user_fields {
    ($callback:ident) => {
        $callback! {
            general.currency_id: Kind::Id(Reference::Currency);
            general.call_limit: Kind::Count;
            general.hidden: Kind::Flag { off: "0" };
            general.responsible_manager_id: Kind::Id(Reference::Manager);
            general.hide_non_answered_calls: Kind::Flag { off: "0" };
            blocking.blocked: Kind::Flag { off: "2" };
            blocking.block_date: Kind::Date { parts: ["by", "bm", "bd"] };
            blocking.block_conditional_use: Kind::Flag { off: "0" };
            details.vat_number: Kind::Text;
            details.clientid: Kind::Text;
            details.first_name: Kind::Text;
            details.last_name: Kind::Text;
            details.accounting_number: Kind::Text;
            details.agreement_number: Kind::Text;
            details.language: Kind::Language;
            details.agreement_date: Kind::Date { parts: ["ay", "am", "ad"] };
            details.taxation_country: Kind::Id(Reference::Direction);
            address.address: Kind::Text;
            address.city: Kind::Text;
            address.postcode: Kind::Text;
            address.county: Kind::Text;
            address.state: Kind::Text;
            address.mob_phone: Kind::Text;
            address.phone: Kind::Text;
            address.fax: Kind::Text;
            address.direction_id: Kind::Id(Reference::Direction);
            address.email: Kind::Email;
            warning_balance.warning_email_active: Kind::Flag { off: "0" };
            warning_balance.warning_email_balance: Kind::Decimal { negative: true };
            warning_balance.warning_email_hour: Kind::Hour;
            taxes.tax1_name: Kind::Text;
            taxes.tax2_name: Kind::Text;
            taxes.tax3_name: Kind::Text;
            taxes.tax4_name: Kind::Text;
            taxes.tax1_value: Kind::Decimal { negative: false };
            taxes.tax2_value: Kind::Decimal { negative: false };
            taxes.tax3_value: Kind::Decimal { negative: false };
            taxes.tax4_value: Kind::Decimal { negative: false };
            taxes.tax2_enabled: Kind::Flag { off: "0" };
            taxes.tax3_enabled: Kind::Flag { off: "0" };
            taxes.tax4_enabled: Kind::Flag { off: "0" };
            invoices.generate_invoice: Kind::Flag { off: "0" };
            lists.enable_static_source_list: Kind::List { pool: Field::static_source_list_id };
            lists.enable_static_list: Kind::List { pool: Field::static_list_id };
            lists.static_source_list_id: Kind::Id(Reference::NumberPool);
            lists.static_list_id: Kind::Id(Reference::NumberPool);
            comment.comment: Kind::Comment;
        }
    };
}

macro_rules! define_table {
    ($($group:ident . $name:ident : $kind:expr;)*) => {
        /// A field of a user, spelled as in the proto, the legacy call and the database.
        #[expect(non_camel_case_types, missing_docs, reason = "a field has one spelling; the proto documents it")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field { $($name),* }

        /// Every field, in the order of the table.
        pub const FIELDS: [Field; [$(Field::$name),*].len()] = [$(Field::$name),*];

        /// The rows, indexed by field.
        const ROWS: [Row; FIELDS.len()] = [$(Row {
            group: stringify!($group),
            name: stringify!($name),
            path: concat!(stringify!($group), ".", stringify!($name)),
            kind: $kind,
        }),*];
    };
}
user_fields!(define_table);

struct Row {
    group: &'static str,
    name: &'static str,
    path: &'static str,
    kind: Kind,
}

/// The kind of value of a field, and its legacy form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The id of a row in another table, 1 to `i64::MAX`, or none.
    Id(Reference),
    /// 0 to `i32::MAX`.
    Count,
    /// 1 to 23, or -1 for off.
    Hour,
    /// A switch. The legacy call writes `1` for on and `off` for off.
    Flag {
        /// The legacy text for off.
        off: &'static str,
    },
    /// Text of at most [`TEXT_CHARACTERS`].
    Text,
    /// Text of at most [`COMMENT_BYTES`].
    Comment,
    /// Empty, or a language code.
    Language,
    /// Empty, or one e-mail address.
    Email,
    /// A decimal of at most 12 digits before and 6 after the point.
    Decimal {
        /// Whether it may be below zero.
        negative: bool,
    },
    /// Whether and how a number pool is used. Every mode except `no` needs the pool.
    List {
        /// The field that holds the pool's id.
        pool: Field,
    },
    /// A calendar day, or none.
    Date {
        /// The legacy parameters of year, month and day.
        parts: [&'static str; 3],
    },
}

/// The kind of row that an id refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A currency.
    Currency,
    /// A direction: a country.
    Direction,
    /// An account that is a manager.
    Manager,
    /// A number pool.
    NumberPool,
}

/// The longest text, in characters.
pub const TEXT_CHARACTERS: usize = 255;
/// The longest comment, in bytes of UTF-8.
pub const COMMENT_BYTES: usize = 65_535;

impl Field {
    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The name: proto field, column and legacy parameter (except dates).
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The group's message field in the proto.
    pub fn group(self) -> &'static str {
        self.row().group
    }

    /// The path within `user_details`, such as `address.city`.
    pub fn path(self) -> &'static str {
        self.row().path
    }

    /// The kind of value that the field holds.
    pub fn kind(self) -> Kind {
        self.row().kind
    }

    /// The field of a path within `user_details`.
    pub fn from_path(path: &str) -> Option<Self> {
        FIELDS.into_iter().find(|field| field.path() == path)
    }

    /// Whether a path covers the field: its own path, its group or `*`.
    pub fn is_within(self, path: &str) -> bool {
        path == "*" || path == self.group() || path == self.path()
    }

    /// The parameters of the legacy call that write this field.
    pub fn parameters(self) -> Vec<&'static str> {
        match self.kind() {
            Kind::Date { parts } => parts.to_vec(),
            _ => vec![self.name()],
        }
    }

    /// The allowed values, as the end of a sentence that begins with the parameter's name.
    pub fn allowed(self) -> &'static str {
        match self.kind() {
            Kind::Id(Reference::Currency) => "must be the id of a currency",
            Kind::Id(Reference::Direction) => "must be the id of a direction",
            Kind::Id(Reference::Manager) => "must be the id of a manager",
            Kind::Id(Reference::NumberPool) => "must be the id of a number pool",
            Kind::Count => "must be an integer from 0 to 2147483647",
            Kind::Hour => "must be an hour from 1 to 23, or -1 for off",
            Kind::Flag { off: "2" } => "must be 1 (blocked) or 2 (not blocked)",
            Kind::Flag { .. } => "must be 0 or 1",
            Kind::Text => {
                "must be text of at most 255 characters, without control characters except tab, CR and LF"
            }
            Kind::Comment => {
                "must be text of at most 65535 bytes, without control characters except tab, CR and LF"
            }
            Kind::Language => "must be empty or 2 to 10 letters, - or _",
            Kind::Email => "must be empty or one e-mail address of at most 255 characters",
            Kind::Decimal { negative: true } => {
                "must be a decimal of at most 12 digits before and 6 after the point"
            }
            Kind::Decimal { negative: false } => {
                "must be a decimal, not negative, of at most 12 digits before and 6 after the point"
            }
            Kind::List { .. } => "must be no, blacklist or whitelist",
            Kind::Date { .. } => {
                "must make a day of the years 1900 to 9999 with the date's other parts"
            }
        }
    }
}

/// Parses a legacy id of at most `i64::MAX`. Leading zeros and surrounding spaces are allowed.
pub fn parse_id(text: &str) -> Option<i64> {
    let digits = text.trim_matches(' ');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}
