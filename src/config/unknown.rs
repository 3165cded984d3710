//! Unknown keys and variables, with suggestions.

use std::fmt;

use figment::value::{Dict, Tag};

use super::{section::VARIABLE_PREFIX, settings::keys};

/// The maximum number of edits from an unknown name to a suggestion.
const MAX_EDITS: usize = 2;

/// Longer unknown names are not shown.
const MAX_SHOWN_LENGTH: usize = 64;

/// The paths of unknown keys, and the tags of their layers.
pub(super) fn paths(data: &Dict) -> Vec<(String, Tag)> {
    let mut paths = Vec::new();
    for (name, value) in data {
        match value.as_dict().filter(|table| !table.is_empty()) {
            Some(table) => {
                paths.extend(
                    table.iter().map(|(key, value)| (format!("{name}.{key}"), value.tag())),
                );
            }
            None => paths.push((name.clone(), value.tag())),
        }
    }
    // Extraction reports a section that is not a table.
    let is_known = |path: &str| keys().any(|key| key.path == path || key.section() == path);
    paths.retain(|(path, _)| !is_known(path));
    paths
}

/// The error of an unknown key or variable.
pub(super) fn error(
    name: &str,
    layer: impl fmt::Display,
    known: impl Iterator<Item = String>,
) -> String {
    let lower = name.to_lowercase();
    let edits = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let similar = known.map(|known| (edits(&known), known)).min();
    let hint = match similar.filter(|(edits, _)| *edits <= MAX_EDITS) {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => String::new(),
    };
    let shown = if is_plain(name) { name } else { "a name that is not shown" };
    format!("{shown} ({layer}) is unknown{hint}")
}

/// Whether a name looks like the name of a key or variable, and not like a secret.
fn is_plain(name: &str) -> bool {
    let (letters, is_variable) = match name.strip_prefix(VARIABLE_PREFIX) {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let is_plain = |byte: u8| match byte {
        b'A'..=b'Z' => is_variable,
        byte => byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'),
    };
    name.len() <= MAX_SHOWN_LENGTH && letters.bytes().all(is_plain)
}
