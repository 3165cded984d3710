//! Output of commands.

use std::io::Write;

use crate::domain::error::chain;

/// Writes to standard output. A reader that has gone is no error.
pub(super) fn text(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes an error and its causes to standard error.
pub(super) fn error(error: &(dyn std::error::Error + 'static)) {
    let _ = writeln!(std::io::stderr().lock(), "m4-user-details: {}", chain(error));
}
