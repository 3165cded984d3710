//! Output of commands.

use std::io::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::error::chain;

/// Writes to standard output. A reader that has gone is no error.
pub(super) fn text(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes an error and its causes to standard error.
pub(super) fn error(error: &(dyn std::error::Error + 'static)) {
    let _ = writeln!(std::io::stderr().lock(), "m4-user-details: {}", chain(error));
}

/// Writes a line to standard error.
pub(super) fn warning(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A time in a table.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A time in a table, or `-`.
pub(super) fn time_or_none(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), self::time)
}
