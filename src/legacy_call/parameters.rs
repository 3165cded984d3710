//! The parameters of a call, from its query string and its body.

use std::{borrow::Cow, sync::LazyLock};

use foldhash::HashMap;
use percent_encoding::percent_decode;

use crate::fields::FIELDS;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RawParameter {
    /// Text.
    Text(String),
    /// A JSON number, as written.
    Number(String),
    /// Text that is not valid UTF-8.
    NotUtf8,
    /// A JSON array or object.
    Nested,
}

impl RawParameter {
    /// Text from bytes that should be UTF-8.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or(Self::NotUtf8, Self::Text)
    }

    /// The text of a string or a number.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text),
            Self::NotUtf8 | Self::Nested => None,
        }
    }
}

/// Whether the parameter is defined for the legacy call.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains_key(name.as_bytes())
}

/// Collects the parameters of a query string or a body, in their order.
pub(crate) trait Take: Default {
    /// Takes a parameter. A value of `None` removes an earlier value of the parameter.
    fn take(&mut self, name: &[u8], given: impl FnOnce() -> Option<RawParameter>);
}

/// The parameters that the call knows; others are ignored. A call has few parameters, so a linear
/// search is faster than a hash map.
#[derive(Clone, Debug, Default)]
pub struct Parameters(Vec<(&'static str, RawParameter)>);

/// Every parameter that the call knows, by name.
static KNOWN: LazyLock<HashMap<&'static [u8], &'static str>> = LazyLock::new(|| {
    let fields = FIELDS.into_iter().flat_map(crate::fields::Field::parameters);
    ["u", "user_id", "hash"].into_iter().chain(fields).map(|name| (name.as_bytes(), name)).collect()
});

/// Parses a query string or a form: `name=value` joined by `&`, percent-encoded, `+` for a space.
pub(super) fn from_form<T: Take>(form: &[u8]) -> T {
    let mut taken = T::default();
    for pair in form.split(|byte| *byte == b'&') {
        let middle = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let value = || decode(pair.get(middle + 1..).unwrap_or_default());
        taken.take(&decode(&pair[..middle]), || {
            Some(RawParameter::from_bytes(value().into_owned()))
        });
    }
    taken
}

impl Take for Parameters {
    fn take(&mut self, name: &[u8], given: impl FnOnce() -> Option<RawParameter>) {
        let Some(&name) = KNOWN.get(name) else { return };
        self.0.retain(|(other, _)| *other != name);
        self.0.extend(given().map(|given| (name, given)));
    }
}

/// Ignores the order.
impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(name, given)| other.get(name) == Some(given))
    }
}

impl Eq for Parameters {}

impl Parameters {
    /// The parameters of a query string or a form.
    pub fn from_form(form: &[u8]) -> Self {
        from_form(form)
    }

    /// Adds the parameters of `others` that are missing here.
    pub(crate) fn or(mut self, others: Self) -> Self {
        for (name, given) in others.0 {
            if self.get(name).is_none() {
                self.0.push((name, given));
            }
        }
        self
    }

    /// A parameter's value, if it was sent.
    pub(super) fn get(&self, name: &str) -> Option<&RawParameter> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, given)| given)
    }
}

fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> =
            text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        return Cow::Owned(percent_decode(&spaced).collect());
    }
    percent_decode(text).into()
}
