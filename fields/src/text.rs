//! Parses the texts of values in legacy calls and imported rows.

use std::borrow::Cow;

use super::{Field, Kind, Reference, parse_id};

/// A text that was read by its field's grammar. The field's limits are checked later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextValue<'a> {
    /// `-1`: no manager.
    None,
    /// An id, perhaps 0.
    Id(i64),
    /// A number.
    Number(i32),
    /// A switch.
    Flag(bool),
    /// A text. A decimal has a point in place of a comma.
    Text(Cow<'a, str>),
    /// A word for the use of a number pool, not checked.
    Word(&'a str),
}

impl<'a> TextValue<'a> {
    /// Reads a text. `None` for an invalid text, and for a date: a legacy call has a date in three
    /// parameters.
    pub fn read(field: Field, text: &'a str) -> Option<Self> {
        let number = text.trim_matches(' ');
        match field.kind() {
            Kind::Id(Reference::Manager) if is_minus_one(number) => Some(Self::None),
            Kind::Id(_) => parse_id(text).map(Self::Id),
            Kind::Hour if is_minus_one(number) => Some(Self::Number(-1)),
            Kind::Count | Kind::Hour => parse_digits(number).map(Self::Number),
            Kind::Flag { off } => match number {
                "1" => Some(Self::Flag(true)),
                _ => (number == off).then_some(Self::Flag(false)),
            },
            Kind::Text | Kind::Comment | Kind::Language | Kind::Email => {
                Some(Self::Text(text.into()))
            }
            Kind::Decimal { .. } => Some(Self::Text(number.replace(',', ".").into())),
            Kind::List { .. } => Some(Self::Word(text)),
            Kind::Date { .. } => None,
        }
    }
}

/// Parses digits, without a sign.
pub fn parse_digits(text: &str) -> Option<i32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn is_minus_one(text: &str) -> bool {
    text.strip_prefix('-').and_then(parse_digits) == Some(1)
}
