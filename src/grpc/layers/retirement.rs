//! Tells the gateway when the legacy call ends, in the metadata of answers to legacy clients.

use std::fmt::Display;

use http::{HeaderMap, HeaderValue};

use crate::{
    credentials::{DEPRECATION, RETIREMENT_LINK, SUNSET},
    retirement::{Link, Retirement},
};

/// Adds the metadata. Without a date or a link there is none.
pub(super) fn announce(retirement: &Retirement, headers: &mut HeaderMap) {
    let Retirement { deprecation, sunset, link, .. } = retirement;
    insert(headers, DEPRECATION, deprecation.as_ref());
    insert(headers, SUNSET, sunset.as_ref());
    insert(headers, RETIREMENT_LINK, link.as_ref().map(Link::as_str));
}

fn insert(headers: &mut HeaderMap, key: &'static str, value: Option<impl Display>) {
    if let Some(Ok(value)) = value.map(|value| HeaderValue::try_from(value.to_string())) {
        headers.insert(key, value);
    }
}
