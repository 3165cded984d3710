//! Tables that the code generates.

mod command_line;
mod fields;
mod protos;

use m4_user_details::{config::reference, limits};

/// The names of all tables.
pub const NAMES: [&str; 9] = [
    "command-line",
    "configuration",
    "error-reasons",
    "grpc-fields",
    "grpc-messages",
    "grpc-methods",
    "legacy-parameters",
    "limits",
    "settings",
];

/// The table with a name, as Markdown.
pub fn table(name: &str) -> Option<String> {
    Some(match name {
        "command-line" => command_line::commands(),
        "configuration" => reference::table(),
        "error-reasons" => protos::reasons(),
        "grpc-fields" => fields::grpc(),
        "grpc-messages" => protos::messages(),
        "grpc-methods" => protos::methods(),
        "legacy-parameters" => fields::legacy(),
        "limits" => limits::table(),
        "settings" => protos::settings(),
        _ => return None,
    })
}

/// A Markdown table with these columns.
fn markdown(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<_> = columns.iter().map(|&column| column.to_owned()).collect();
    let rule = vec!["---".to_owned(); columns.len()];
    let rows: String = rows
        .into_iter()
        .map(|cells| line(&cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>()))
        .collect();
    line(&head) + &line(&rule) + &rows
}

/// The text of a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").trim().to_owned()
}

/// The text as code.
fn code(text: &str) -> String {
    format!("`{text}`")
}
