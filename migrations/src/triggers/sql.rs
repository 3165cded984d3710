//! SQL that the engines share.

use crate::details::Detail;

/// The entry point of an external change in the change log.
pub(super) const DOOR: &str = "external";

/// The end of a message that begins with the column.
pub(super) const REFUSAL: &str = "holds a value that the field does not allow";

/// The columns of a user that an etag covers.
pub(super) fn covered(details: &[Detail]) -> impl Iterator<Item = &'static str> {
    ["username", "account_type"].into_iter().chain(details.iter().map(Detail::column))
}

/// Joins the SQL of several items.
pub(super) fn join(items: impl Iterator<Item = String>, separator: &str) -> String {
    items.collect::<Vec<_>>().join(separator)
}

/// Joins the conditions of one dialect.
pub(super) fn any(conditions: impl Iterator<Item = String>) -> String {
    join(conditions, " OR ")
}
