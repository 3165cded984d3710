//! The values of a user's fields. Each type parses, and cannot hold an invalid value.

use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate};
use rust_decimal::Decimal;

use crate::fields::{COMMENT_BYTES, FIELDS, Field, Kind, TEXT_CHARACTERS};

/// The years of a date.
const YEARS: RangeInclusive<i32> = 1900..=9999;

/// The value of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value: an id or a date that is not set.
    None,
    /// An id, 1 or more.
    Id(i64),
    /// A number.
    Integer(i32),
    /// A switch.
    Flag(bool),
    /// Text.
    Text(String),
    /// An exact decimal in millionths.
    Micros(i64),
    /// How a number pool is used.
    List(ListMode),
    /// A calendar day.
    Date(NaiveDate),
}

/// How a number pool is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListMode {
    /// Not used.
    No,
    /// Its numbers are refused.
    Blacklist,
    /// Only its numbers are accepted.
    Whitelist,
}

impl ListMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::No, Self::Blacklist, Self::Whitelist];

    /// The word in legacy calls and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Blacklist => "blacklist",
            Self::Whitelist => "whitelist",
        }
    }

    /// The mode for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

impl Value {
    /// The bytes of a text; 0 for other values.
    pub fn text_bytes(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { 0 }
    }

    /// The value of a cleared field, and of a field of a new user.
    pub fn cleared(field: Field) -> Self {
        match field.kind() {
            Kind::Id(_) | Kind::Date { .. } => Self::None,
            Kind::Count => Self::Integer(0),
            Kind::Hour => Self::Integer(-1),
            Kind::Flag { .. } => Self::Flag(false),
            Kind::Text | Kind::Comment | Kind::Language | Kind::Email => Self::Text(String::new()),
            Kind::Decimal { .. } => Self::Micros(0),
            Kind::List { .. } => Self::List(ListMode::No),
        }
    }

    /// An id of 1 or more, if the field holds ids.
    pub fn id(field: Field, id: i64) -> Option<Self> {
        (matches!(field.kind(), Kind::Id(_)) && id > 0).then_some(Self::Id(id))
    }

    /// A number within the field's limits.
    pub fn integer(field: Field, number: i32) -> Option<Self> {
        let allowed = match field.kind() {
            Kind::Count => number >= 0,
            Kind::Hour => number == -1 || (1..=23).contains(&number),
            _ => false,
        };
        allowed.then_some(Self::Integer(number))
    }

    /// Whether the field may hold the value.
    pub fn fits(&self, field: Field) -> bool {
        match self {
            Self::None => matches!(field.kind(), Kind::Id(_) | Kind::Date { .. }),
            Self::Id(id) => Self::id(field, *id).is_some(),
            Self::Integer(number) => Self::integer(field, *number).is_some(),
            Self::Flag(_) => matches!(field.kind(), Kind::Flag { .. }),
            Self::Text(text) => {
                !matches!(field.kind(), Kind::Decimal { .. })
                    && Self::text(field, text.clone()).is_some()
            }
            Self::Micros(micros) => {
                let text = micros_to_text(*micros);
                Self::text(field, text).is_some_and(|value| value == *self)
            }
            Self::List(_) => matches!(field.kind(), Kind::List { .. }),
            Self::Date(date) => {
                matches!(field.kind(), Kind::Date { .. }) && YEARS.contains(&date.year())
            }
        }
    }

    /// A text in the field's grammar; for a decimal field, the number.
    pub fn text(field: Field, text: String) -> Option<Self> {
        let allowed = match field.kind() {
            Kind::Text => is_text(&text),
            Kind::Comment => text.len() <= COMMENT_BYTES && is_printable(&text),
            Kind::Language => text.is_empty() || is_language(&text),
            Kind::Email => text.is_empty() || (is_text(&text) && is_email(&text)),
            Kind::Decimal { negative } => {
                return parse_micros(&text)
                    .filter(|micros| negative || *micros >= 0)
                    .map(Self::Micros);
            }
            _ => false,
        };
        allowed.then_some(Self::Text(text))
    }
}

/// Every value of one user. Boxed, because users are moved often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values(Box<[Value; FIELDS.len()]>);

impl Default for Values {
    fn default() -> Self {
        Self(Box::new(FIELDS.map(Value::cleared)))
    }
}

impl std::ops::Index<Field> for Values {
    type Output = Value;

    fn index(&self, field: Field) -> &Value {
        &self.0[field as usize]
    }
}

impl std::ops::IndexMut<Field> for Values {
    fn index_mut(&mut self, field: Field) -> &mut Value {
        &mut self.0[field as usize]
    }
}

/// A calendar day. Parts may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialDate {
    /// 1900 to 9999.
    pub year: Option<i32>,
    /// 1 to 12.
    pub month: Option<i32>,
    /// 1 to 31.
    pub day: Option<i32>,
}

impl PartialDate {
    /// The day, with missing parts from `stored`. `None` unless this makes a day from 1900 to 9999.
    pub fn complete(self, stored: Option<NaiveDate>) -> Option<NaiveDate> {
        let part = |given: Option<i32>, from: fn(NaiveDate) -> Option<i32>| {
            given.or_else(|| stored.and_then(from))
        };
        let year = part(self.year, |date| Some(date.year()))?;
        let month = part(self.month, |date| i32::try_from(date.month()).ok())?;
        let day = part(self.day, |date| i32::try_from(date.day()).ok())?;
        YEARS.contains(&year).then_some(())?;
        NaiveDate::from_ymd_opt(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)
    }
}

/// Parses a decimal into millionths: an optional `-`, 1 to 12 digits, optionally a point and 1 to 6
/// digits.
pub fn parse_micros(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let within = |part: &str, longest| {
        (1..=longest).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !within(whole, 12) || !within(fraction, 6) {
        return None;
    }
    let mut decimal = Decimal::from_str_exact(text).ok()?;
    decimal.rescale(6);
    i64::try_from(decimal.mantissa()).ok()
}

/// Millionths as decimal text without trailing zeros.
pub fn micros_to_text(micros: i64) -> String {
    Decimal::new(micros, 6).normalize().to_string()
}

/// Whether a text has no control characters (Unicode category Cc) except tab, CR and LF.
fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\r' | '\n'))
}

/// Whether a text has at most 255 characters, and no control characters except tab, CR and LF.
pub fn is_text(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARACTERS && is_printable(text)
}

fn is_language(text: &str) -> bool {
    (2..=10).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_'))
}

/// Whether a text has the grammar of HTML's `input type=email`:
/// <https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address>.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let is_atom =
        |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !local.is_empty() && local.bytes().all(is_atom) && domain.split('.').all(is_label)
}
