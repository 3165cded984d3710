//! Translates parameters to an `UpdateUserDetailsRequest`.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::FieldMask;

use super::{
    body::Unreadable,
    parameters::{Parameters, RawParameter},
};
use crate::{
    credentials::LegacyCredentials,
    fields::{
        FIELDS, Field, Kind, parse_id,
        text::{TextValue, parse_digits},
    },
    proto::{Date, Leaf, ListMode, UpdateUserDetailsRequest, UserDetails},
};

/// A translated call.
pub struct Translated {
    /// The RPC's request.
    pub request: UpdateUserDetailsRequest,
    /// The legacy client's credentials.
    pub(crate) credentials: LegacyCredentials,
    /// Parameters with values that no typed field can hold. The RPC then only validates.
    pub(super) unfit: BTreeMap<Field, Unfit>,
    /// Decimals that are JSON numbers with too many digits or an exponent.
    pub(super) inexact: BTreeSet<Field>,
    /// Why the body could not be read. The RPC then only validates.
    pub(super) unreadable: Option<Unreadable>,
    /// The parameter that messages name for a field; for a date, the first part that was sent.
    pub(super) names: BTreeMap<Field, &'static str>,
}

impl Translated {
    /// The paths of the fields with values that no typed field can hold, separated by commas; `None`
    /// without such fields.
    pub(crate) fn unfit_fields(&self) -> Option<String> {
        let paths: Vec<_> = self.unfit.keys().map(|field| field.path()).collect();
        (!paths.is_empty()).then(|| paths.join(","))
    }

    /// Adds the reason why the body could not be read, so that nothing is stored.
    pub(crate) fn with_unreadable(mut self, unreadable: Unreadable) -> Self {
        self.request.validate_only = true;
        self.unreadable = Some(unreadable);
        self
    }
}

/// A parameter whose value no typed field can hold.
#[derive(Clone, Copy)]
pub(super) struct Unfit {
    /// The parameter.
    pub(super) name: &'static str,
    /// The allowed values, as the end of a sentence that begins with the parameter's name.
    pub(super) allowed: &'static str,
}

impl Unfit {
    fn new(field: Field, name: &'static str, given: &RawParameter) -> Self {
        let allowed = match given {
            RawParameter::NotUtf8 => "must be encoded in UTF-8",
            RawParameter::Text(_) | RawParameter::Number(_) | RawParameter::Nested => {
                field.allowed()
            }
        };
        Self { name, allowed }
    }
}

/// The change to a field.
enum Asked {
    Set(Leaf),
    Clear,
    /// No typed field can hold the value.
    Unfit(Unfit),
}

/// Translates a call.
pub fn translate(parameters: &Parameters, method: &str, address: &str) -> Translated {
    let mut details = UserDetails::default();
    let mut mask = FieldMask::default();
    let mut unfit = BTreeMap::new();
    let mut inexact = BTreeSet::new();
    let mut names = BTreeMap::new();
    for field in FIELDS {
        let (name, asked) = match field.kind() {
            Kind::Date { parts } => date(parameters, field, parts),
            _ => (field.name(), parameters.get(field.name()).map(|given| single(field, given))),
        };
        let Some(asked) = asked else { continue };
        names.insert(field, name);
        if is_inexact(field, parameters.get(name)) {
            inexact.insert(field);
        }
        match asked {
            Asked::Unfit(own) => {
                unfit.insert(field, own);
                continue;
            }
            Asked::Set(leaf) => details.set(field, leaf),
            Asked::Clear => {}
        }
        mask.paths.push(field.path().to_owned());
    }
    let credentials = credentials(parameters, method, address);
    let request = UpdateUserDetailsRequest {
        user_id: parse_id(&credentials.user_id).unwrap_or_default(),
        user_details: Some(details),
        update_mask: Some(mask),
        validate_only: !unfit.is_empty(),
        acting_username: String::new(),
        reason: String::new(),
        request_id: String::new(),
    };
    Translated { request, credentials, unfit, inexact, unreadable: None, names }
}

/// The credentials exactly as sent. If a value is not text, no hash can be correct: all stay empty.
fn credentials(parameters: &Parameters, method: &str, address: &str) -> LegacyCredentials {
    let text = |name| match parameters.get(name) {
        None => Some(String::new()),
        Some(given) => given.text().map(str::to_owned),
    };
    let [username, user_id, hash] = match (text("u"), text("user_id"), text("hash")) {
        (Some(username), Some(user_id), Some(hash)) => [username, user_id, hash],
        _ => [const { String::new() }; 3],
    };
    let (method, address) = (method.to_owned(), address.to_owned());
    LegacyCredentials { username, user_id, hash, method, address }
}

/// The value of a field with one parameter.
fn single(field: Field, given: &RawParameter) -> Asked {
    let unfit = || Asked::Unfit(Unfit::new(field, field.name(), given));
    let Some(text) = given.text() else { return unfit() };
    let leaf = match TextValue::read(field, text) {
        None => return unfit(),
        Some(TextValue::None) => return Asked::Clear,
        Some(TextValue::Id(id)) => Leaf::Int64(id),
        Some(TextValue::Number(number)) => Leaf::Int32(number),
        Some(TextValue::Flag(flag)) => Leaf::Bool(flag),
        Some(TextValue::Text(text)) => Leaf::Text(text.into_owned()),
        Some(TextValue::Word(word)) => match list_mode(word) {
            Some(mode) => Leaf::Int32(mode.into()),
            None => return unfit(),
        },
    };
    Asked::Set(leaf)
}

/// The first parameter of a date that was sent, and the date's value.
fn date(
    parameters: &Parameters,
    field: Field,
    parts: [&'static str; 3],
) -> (&'static str, Option<Asked>) {
    let given = parts.map(|part| parameters.get(part));
    let Some(first) = given.iter().position(Option::is_some) else {
        return (parts[0], None);
    };
    let empty = RawParameter::Text(String::new());
    if given.iter().all(|given| *given == Some(&empty)) {
        return (parts[first], Some(Asked::Clear));
    }
    let mut numbers = [None; 3];
    for (index, given) in given.into_iter().enumerate() {
        let Some(given) = given else { continue };
        let Some(number) = given.text().and_then(|text| parse_digits(text.trim_matches(' ')))
        else {
            let unfit = Unfit::new(field, parts[index], given);
            return (parts[first], Some(Asked::Unfit(unfit)));
        };
        numbers[index] = Some(number);
    }
    let [year, month, day] = numbers;
    (parts[first], Some(Asked::Set(Leaf::Date(Date { year, month, day }))))
}

/// Whether a decimal is a JSON number with an exponent, or with more than 6 digits after the point.
///
/// PHP before 7.1 writes 19.95 as 19.949999999999999.
fn is_inexact(field: Field, given: Option<&RawParameter>) -> bool {
    let Some(RawParameter::Number(number)) = given else { return false };
    let fraction = number.split_once('.').map(|(_, fraction)| fraction).unwrap_or_default();
    matches!(field.kind(), Kind::Decimal { .. })
        && (fraction.len() > 6 || number.contains(['e', 'E']))
}

fn list_mode(word: &str) -> Option<ListMode> {
    match word {
        "no" => Some(ListMode::No),
        "blacklist" => Some(ListMode::Blacklist),
        "whitelist" => Some(ListMode::Whitelist),
        _ => None,
    }
}
