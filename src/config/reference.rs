//! The reference of the keys, generated from the sections.

use std::fmt::Write;

use super::{section::Key, settings::keys};

/// The keys as a Markdown table.
pub fn table() -> String {
    let row = |key: &Key| {
        let default = match key.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        format!("| `{}` | `{}` | {default} | {} |\n", key.path, key.variable(), key.help)
    };
    let rows: String = keys().map(row).collect();
    format!(
        "| key in the file | environment | default | meaning |\n| --- | --- | --- | --- |\n{rows}"
    )
}

/// The sample configuration file: each key is commented out.
pub fn sample() -> String {
    let mut text = "# The configuration of m4-user-details. Each key has its default and its \
                    environment variable.\n"
        .to_owned();
    let mut section = "";
    for key in keys() {
        if key.section() != section {
            section = key.section();
            // Writing into a string does not fail.
            let _ = write!(text, "\n[{section}]\n");
        }
        let name = key.path.rsplit('.').next().unwrap_or_default();
        let default = match key.default {
            bare if bare.parse::<bool>().is_ok() || bare.parse::<u64>().is_ok() => bare.to_owned(),
            quoted => format!("{quoted:?}"),
        };
        let _ = write!(text, "\n# {} ({})\n#{name} = {default}\n", key.help, key.variable());
    }
    text
}
