//! The values that the columns of `accounts` may hold, as SQL conditions.

use m4_user_details_fields::Kind;

use super::sql::{any, join};
use crate::details::Detail;

/// The SQL of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
    MySql,
}

/// A check of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) column: &'static str,
    rule: Rule,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Detail(Kind),
    /// 1 to 255 characters, without any control character.
    Username,
    AccountType,
    /// A flag that is no detail.
    Flag,
    /// 1 or more.
    Version,
    /// Microseconds of the years 1 to 9999.
    Time,
}

const ACCOUNT: [Check; 6] = [
    Check { column: "username", rule: Rule::Username },
    Check { column: "account_type", rule: Rule::AccountType },
    Check { column: "show_only_assigned_users", rule: Rule::Flag },
    Check { column: "version", rule: Rule::Version },
    Check { column: "create_time", rule: Rule::Time },
    Check { column: "update_time", rule: Rule::Time },
];

/// All checks.
pub(super) fn all(details: &[Detail]) -> impl Iterator<Item = Check> {
    let check =
        |detail: &Detail| Check { column: detail.column(), rule: Rule::Detail(detail.kind) };
    ACCOUNT.into_iter().chain(details.iter().map(check))
}

/// The microseconds of 0001-01-01 and of 9999-12-31.
const TIMES: &str = "-62135596800000000 AND 253402300799999999";
/// The largest decimal: 12 digits before and 6 after the point.
const DECIMAL: i64 = 999_999_999_999_999_999;
/// The grammar of HTML's `input type=email`. `[.]` needs no escape on any engine.
const EMAIL: &str = "^[a-zA-Z0-9.!#$%&''*+/=?^_`{|}~-]+@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\
                     ([.][a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$";

impl Check {
    /// The columns that the check reads.
    pub(super) fn columns(self) -> impl Iterator<Item = &'static str> {
        let pool = match self.rule {
            Rule::Detail(Kind::List { pool }) => Some(pool.name()),
            _ => None,
        };
        [Some(self.column), pool].into_iter().flatten()
    }

    /// The condition under which the new value is refused. NULL, for NULL, refuses nothing. `None`
    /// if the column cannot hold another value.
    pub(super) fn refused(self, dialect: Dialect) -> Option<String> {
        let control = self.is_text().then(|| control(dialect, &self.value(), true));
        let conditions = [self.refused_but_for_control(dialect), control];
        conditions.into_iter().flatten().reduce(|one, next| format!("{one} OR {next}"))
    }

    /// The new value.
    fn value(self) -> String {
        format!("NEW.{}", self.column)
    }

    /// Whether the column holds text with spaces.
    fn is_text(self) -> bool {
        matches!(self.rule, Rule::Detail(Kind::Text | Kind::Comment))
    }

    /// Like [`Self::refused`], without the control characters of texts. `None` if nothing is left.
    fn refused_but_for_control(self, dialect: Dialect) -> Option<String> {
        let value = self.value();
        // Only SQLite's columns hold values of any type.
        let typed = |kind: &str, condition: String| match dialect {
            Dialect::Sqlite => format!("typeof({value}) NOT IN ({kind}) OR {condition}"),
            Dialect::Postgres | Dialect::MySql => condition,
        };
        let number = |condition| Some(typed("'integer', 'null'", condition));
        let text = |condition| Some(typed("'text'", condition));
        match self.rule {
            Rule::Detail(Kind::Id(_)) | Rule::Version => number(format!("{value} < 1")),
            Rule::Detail(Kind::Count) => number(format!("{value} NOT BETWEEN 0 AND {}", i32::MAX)),
            Rule::Detail(Kind::Hour) => {
                number(format!("{value} NOT BETWEEN -1 AND 23 OR {value} = 0"))
            }
            Rule::Detail(Kind::Flag { .. }) | Rule::Flag => match dialect {
                Dialect::Postgres => None,
                Dialect::Sqlite | Dialect::MySql => number(format!("{value} NOT IN (0, 1)")),
            },
            Rule::Detail(Kind::Decimal { negative }) => {
                let least = if negative { -DECIMAL } else { 0 };
                number(format!("{value} NOT BETWEEN {least} AND {DECIMAL}"))
            }
            Rule::Time => number(format!("{value} NOT BETWEEN {TIMES}")),
            Rule::Detail(Kind::Date { .. }) => Some(date(dialect, &value)),
            Rule::Detail(Kind::List { pool }) => {
                let words = format!("{value} NOT IN ('no', 'blacklist', 'whitelist')");
                text(format!("{words} OR {value} <> 'no' AND NEW.{} IS NULL", pool.name()))
            }
            Rule::AccountType => text(format!("{value} NOT IN ('admin', 'manager', 'user')")),
            Rule::Username => {
                let unfit = format!("{value} = '' OR {}", control(dialect, &value, false));
                text(any([unfit].into_iter().chain(too_long(dialect, &value))))
            }
            Rule::Detail(Kind::Text) => too_long(dialect, &value).and_then(text),
            Rule::Detail(Kind::Comment) => match dialect {
                Dialect::Sqlite => text(format!("length(CAST({value} AS BLOB)) > 65535")),
                Dialect::Postgres => Some(format!("octet_length({value}) > 65535")),
                Dialect::MySql => None,
            },
            Rule::Detail(Kind::Language) => text(language(dialect, &value)),
            Rule::Detail(Kind::Email) => text(email(dialect, &value)),
        }
    }
}

/// The condition under which any value of a new row is refused. Cheaper than the checks one by one:
/// control characters are searched in all texts at once.
pub(super) fn any_refused(dialect: Dialect, details: &[Detail]) -> String {
    let texts = all(details).filter(|check| check.is_text()).map(Check::value).collect::<Vec<_>>();
    let texts = match dialect {
        Dialect::MySql => format!("CONCAT({})", texts.join(", ")),
        Dialect::Sqlite | Dialect::Postgres => format!("({})", texts.join(" || ")),
    };
    let others = all(details).filter_map(|check| check.refused_but_for_control(dialect));
    any(others.chain([control(dialect, &texts, true)]))
}

/// Whether a text has more than 255 characters. The columns of servers are not wider.
fn too_long(dialect: Dialect, value: &str) -> Option<String> {
    (dialect == Dialect::Sqlite).then(|| format!("length({value}) > 255"))
}

/// Whether a text has a control character (Unicode category Cc). `spaced` allows tab, CR and LF.
fn control(dialect: Dialect, value: &str, spaced: bool) -> String {
    match dialect {
        Dialect::Sqlite => {
            let class = if spaced {
                "char(1) || '-' || char(8, 11, 12, 14) || '-' || char(31, 127) || '-' || char(159)"
            } else {
                "char(1) || '-' || char(31, 127) || '-' || char(159)"
            };
            // GLOB ends at NUL.
            format!(
                "{value} GLOB '*[' || {class} || ']*' OR instr(CAST({value} AS BLOB), x'00') > 0"
            )
        }
        Dialect::Postgres => {
            let class = if spaced {
                r"\\u0001-\\u0008\\u000B\\u000C\\u000E-\\u001F\\u007F-\\u009F"
            } else {
                r"\\u0001-\\u001F\\u007F-\\u009F"
            };
            format!("{value} ~ E'[{class}]'")
        }
        // The classes of PostgreSQL, and NUL. Hexadecimal: the meaning of `\` hangs on `sql_mode`.
        Dialect::MySql => {
            let class = if spaced { "002D080B0C0E2D1F7F2DC29F" } else { "002D1F7F2DC29F" };
            format!("{value} REGEXP _utf8mb4 X'5B{class}5D'")
        }
    }
}

fn date(dialect: Dialect, value: &str) -> String {
    let years = format!("{value} NOT BETWEEN '1900-01-01' AND '9999-12-31'");
    match dialect {
        Dialect::Postgres => years,
        // `2024-02-00` is possible where `sql_mode` is not strict.
        Dialect::MySql => format!("{years} OR MONTH({value}) * DAYOFMONTH({value}) = 0"),
        // The function makes 2024-03-01 of 2024-02-30.
        Dialect::Sqlite => {
            format!("{value} IS NOT NULL AND (date({value}) IS NOT {value} OR {years})")
        }
    }
}

fn language(dialect: Dialect, value: &str) -> String {
    let (length, other) = match dialect {
        Dialect::Sqlite => ("length", format!("{value} GLOB '*[^A-Za-z_-]*'")),
        Dialect::Postgres => ("char_length", format!("{value} ~ '[^A-Za-z_-]'")),
        Dialect::MySql => ("char_length", format!("{value} REGEXP '[^A-Za-z_-]'")),
    };
    format!("{value} <> '' AND ({length}({value}) NOT BETWEEN 2 AND 10 OR {other})")
}

fn email(dialect: Dialect, value: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("{value} <> '' AND {value} !~ '{EMAIL}'"),
        // `$` of PCRE allows a newline behind it.
        Dialect::MySql => {
            let newline = format!("{value} REGEXP '[[:space:]]'");
            format!("{value} <> '' AND ({value} NOT REGEXP '{EMAIL}' OR {newline})")
        }
        // Without regular expressions: every rule except the length of a label.
        Dialect::Sqlite => {
            let domain = format!("substr({value}, instr({value}, '@') + 1)");
            let other = format!("{value} GLOB '*[^a-zA-Z0-9.!#$%&''*+/=?^_`{{|}}~@-]*'");
            let label = format!("('.' || {domain} || '.')");
            let outside = format!("{domain} GLOB '*[^a-zA-Z0-9.-]*'");
            let unfit = ["..", ".-", "-."].map(|part| format!("instr({label}, '{part}') > 0"));
            format!(
                "{value} <> '' AND (length({value}) > 255 OR {value} NOT LIKE '_%@_%' OR {other} \
                 OR {outside} OR {})",
                unfit.join(" OR ")
            )
        }
    }
}

/// The conditions under which an inserted row is refused, each with its column.
pub(super) fn refused(
    dialect: Dialect,
    details: &[Detail],
) -> impl Iterator<Item = (&'static str, String)> {
    all(details).filter_map(move |check| Some((check.column, check.refused(dialect)?)))
}

/// The conditions under which an updated row is refused. An old value may stay.
pub(super) fn refused_change(
    dialect: Dialect,
    details: &[Detail],
    changed: fn(&str) -> String,
) -> impl Iterator<Item = (&'static str, String)> {
    all(details).filter_map(move |check| {
        let is_changed = any(check.columns().map(changed));
        let refused = check.refused(dialect)?;
        Some((check.column, format!("({is_changed}) AND ({refused})")))
    })
}

/// A CASE expression: the first column that is refused, or NULL.
pub(super) fn first_refused(refused: impl Iterator<Item = (&'static str, String)>) -> String {
    let case = |(column, condition)| format!("\n    WHEN {condition} THEN '{column}'");
    format!("CASE{} END", join(refused.map(case), ""))
}
