//! Parameters to one `UpdateUserDetailsRequest`.

use std::collections::BTreeMap;

use prost_types::FieldMask;

use super::parameters::{Given, Parameters};
use crate::{
    credentials::LegacyCredentials,
    fields::{FIELDS, Field, Kind, Reference, parse_id},
    proto::{Date, Leaf, ListMode, UpdateUserDetailsRequest, UserDetails},
};

/// A call, translated.
pub struct Translated {
    /// The RPC.
    pub request: UpdateUserDetailsRequest,
    /// What the legacy client sent to prove itself.
    pub(crate) credentials: LegacyCredentials,
    /// The parameters whose values no typed field can hold. With any of them the RPC validates only.
    pub(super) unfit: BTreeMap<Field, &'static str>,
    /// The parameter that stands for a field in messages: for a date the first of its parts that was sent.
    pub(super) names: BTreeMap<Field, &'static str>,
}

/// What a parameter asks of a field.
enum Asked {
    Set(Leaf),
    Clear,
    /// No typed field can hold it; the parameter.
    Unfit(&'static str),
}

/// Translates a call.
pub fn translate(parameters: &Parameters, method: &str, address: &str) -> Translated {
    let mut details = UserDetails::default();
    let mut mask = FieldMask::default();
    let mut unfit = BTreeMap::new();
    let mut names = BTreeMap::new();
    for field in FIELDS {
        let (name, asked) = match field.kind() {
            Kind::Date { parts } => date(parameters, parts),
            _ => (field.name(), parameters.get(field.name()).map(|given| single(field, given))),
        };
        let Some(asked) = asked else { continue };
        names.insert(field, name);
        match asked {
            Asked::Unfit(name) => {
                unfit.insert(field, name);
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
    Translated { request, credentials, unfit, names }
}

/// The values exactly as sent. What is no text cannot be part of a right hash: it goes without one.
fn credentials(parameters: &Parameters, method: &str, address: &str) -> LegacyCredentials {
    let text = |name| match parameters.get(name) {
        None => Some(String::new()),
        Some(Given::Text(text)) => Some(text.clone()),
        Some(Given::NoText) => None,
    };
    let [username, user_id, hash] = match (text("u"), text("user_id"), text("hash")) {
        (Some(username), Some(user_id), Some(hash)) => [username, user_id, hash],
        _ => [const { String::new() }; 3],
    };
    let (method, address) = (method.to_owned(), address.to_owned());
    LegacyCredentials { username, user_id, hash, method, address }
}

/// The value of a field that has one parameter.
fn single(field: Field, given: &Given) -> Asked {
    let Given::Text(text) = given else { return Asked::Unfit(field.name()) };
    let number = text.trim_matches(' ');
    let leaf = match field.kind() {
        Kind::Id(Reference::Manager) if is_minus_one(number) => return Asked::Clear,
        Kind::Id(_) => parse_id(text).map(Leaf::Int64),
        Kind::Hour if is_minus_one(number) => Some(Leaf::Int32(-1)),
        Kind::Count | Kind::Hour => digits(number).map(Leaf::Int32),
        Kind::Flag { off } => match number {
            "1" => Some(Leaf::Bool(true)),
            _ => (number == off).then_some(Leaf::Bool(false)),
        },
        Kind::Text | Kind::Comment | Kind::Language | Kind::Email => Some(Leaf::Text(text.clone())),
        Kind::Decimal { .. } => Some(Leaf::Text(number.replace(',', "."))),
        Kind::List { .. } => match text.as_str() {
            "no" => Some(ListMode::No),
            "blacklist" => Some(ListMode::Blacklist),
            "whitelist" => Some(ListMode::Whitelist),
            _ => None,
        }
        .map(|mode| Leaf::Int32(mode.into())),
        // Has three parameters.
        Kind::Date { .. } => None,
    };
    leaf.map_or(Asked::Unfit(field.name()), Asked::Set)
}

/// The value of a date from its year, month and day, and the first of them that was sent.
fn date(parameters: &Parameters, parts: [&'static str; 3]) -> (&'static str, Option<Asked>) {
    let given = parts.map(|part| parameters.get(part));
    let Some(first) = given.iter().position(Option::is_some) else {
        return (parts[0], None);
    };
    let empty = Given::Text(String::new());
    if given.iter().all(|given| *given == Some(&empty)) {
        return (parts[first], Some(Asked::Clear));
    }
    let mut numbers = [None; 3];
    for (index, given) in given.into_iter().enumerate() {
        let Some(given) = given else { continue };
        let number = match given {
            Given::Text(text) => digits(text.trim_matches(' ')),
            Given::NoText => None,
        };
        let Some(number) = number else {
            return (parts[first], Some(Asked::Unfit(parts[index])));
        };
        numbers[index] = Some(number);
    }
    let [year, month, day] = numbers;
    (parts[first], Some(Asked::Set(Leaf::Date(Date { year, month, day }))))
}

fn digits(text: &str) -> Option<i32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn is_minus_one(text: &str) -> bool {
    text.strip_prefix('-').and_then(digits) == Some(1)
}
