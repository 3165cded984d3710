//! Request heads, between a connection and hyper.
//!
//! hyper answers a head that it cannot parse by itself: with an empty body, without a log line or a
//! metric. It also has no place for a target that is longer than [`http::Uri`] allows. So
//! [`HeadReader`] reads each head first. It passes valid heads on unchanged. It replaces a refused
//! head by a small valid one, whose request carries a [`Refusal`], so that the router answers it
//! like any other request. It takes a long query string out of the head, and the request carries it
//! as a [`LongQuery`].
//!
//! The position of each head must be certain, or one client could insert a request into another
//! client's requests (request smuggling). So a request with ambiguous framing is refused.

mod framing;
mod notes;
mod parse;
mod reader;
#[cfg(test)]
mod tests;

pub(crate) use notes::{LongQuery, Notes, Refusal};
pub(crate) use parse::is_query;
pub(crate) use reader::HeadReader;

/// The largest head, in bytes.
///
/// A `comment` of 65,535 bytes, each percent-encoded, takes 196,605.
pub(crate) const MAX_HEAD: usize = 256 * 1024;
/// The largest header section, in bytes.
pub(crate) const MAX_FIELDS: usize = 64 * 1024;
/// The most header fields. This is also hyper's limit.
pub(crate) const MAX_FIELD_COUNT: usize = 100;
/// The longest method, in bytes.
const MAX_METHOD: usize = 32;
/// The longest target that hyper takes, in bytes: the limit of [`http::Uri`].
pub(crate) const MAX_URI: usize = 65_534;
/// The largest head that hyper gets, in bytes.
pub(crate) const MAX_PASSED: usize = MAX_URI + MAX_FIELDS + 1024;
