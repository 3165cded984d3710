//! The types of configuration values. Files may give numbers and flags as text; the environment
//! and flags always do.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error};

/// A type of configuration values.
pub(super) trait Parse: Sized {
    /// Whether values must not be shown.
    const SECRET: bool = false;

    /// Parses a value.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with the key. It must not quote the value.
    fn parse(text: String) -> Result<Self, String>;
}

/// A value in a layer.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be text, a whole number, true or false")]
pub(super) enum Scalar {
    Flag(bool),
    Number(i64),
    Text(String),
}

impl Scalar {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// Deserialises a value of any type.
pub(super) fn deserialize<'de, D: Deserializer<'de>, T: Parse>(from: D) -> Result<T, D::Error> {
    T::parse(Scalar::deserialize(from)?.into_text()).map_err(D::Error::custom)
}

impl Parse for String {
    fn parse(text: String) -> Result<Self, String> {
        Ok(text)
    }
}

impl Parse for PathBuf {
    fn parse(text: String) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl Parse for SecretString {
    const SECRET: bool = true;

    fn parse(text: String) -> Result<Self, String> {
        Ok(text.into())
    }
}

/// Empty text counts as not set.
impl<T: Parse> Parse for Option<T> {
    const SECRET: bool = T::SECRET;

    fn parse(text: String) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
}

impl Parse for bool {
    fn parse(text: String) -> Result<Self, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }
}

impl Parse for SocketAddr {
    fn parse(text: String) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "must be an address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned()
        })
    }
}

/// A number in a range.
#[derive(Clone, Copy)]
pub(super) struct Number<const MIN: usize, const MAX: usize>(pub(super) usize);

impl<const MIN: usize, const MAX: usize> Number<MIN, MAX> {
    pub(super) fn seconds(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }

    pub(super) fn milliseconds(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

impl<const MIN: usize, const MAX: usize> Parse for Number<MIN, MAX> {
    fn parse(text: String) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
        number.map(Self).ok_or_else(|| format!("must be a number from {MIN} to {MAX}"))
    }
}
