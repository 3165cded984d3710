//! Output of commands.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::error::chain;

/// The style of errors.
pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The style of warnings.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
/// The style of successes.
pub(super) const SUCCESS: Style = AnsiColor::Green.on_default();

/// Writes to standard output. A reader that has gone is no error.
pub(super) fn text(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes an error and its causes to standard error. Colours appear on a terminal, unless `NO_COLOR` is
/// set.
pub(super) fn error(error: &(dyn std::error::Error + 'static)) {
    let text = format!("{ERROR}m4-user-details:{ERROR:#} {}", chain(error));
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Writes to standard output with colours, under the same conditions.
pub(super) fn coloured(text: &str) {
    let _ = anstream::stdout().lock().write_all(text.as_bytes());
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
