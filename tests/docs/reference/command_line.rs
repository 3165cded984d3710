//! The command line, from clap.

use std::{collections::BTreeMap, fmt::Write};

use clap::{Arg, Command, CommandFactory};
use m4_user_details::cli::Cli;

use super::{code, markdown};

/// The heading of the flags that override the configuration.
const CONFIGURATION: &str = "Configuration";

/// Every command with its arguments.
pub fn commands() -> String {
    let mut root = Cli::command();
    root.build();
    let mut overrides = BTreeMap::new();
    let commands = [&root].into_iter().chain(root.get_subcommands());
    for argument in commands.flat_map(Command::get_arguments).filter(|own| is_override(own)) {
        overrides.insert(name(argument), help(argument));
    }
    let rows: Vec<_> = overrides.into_iter().map(|(name, help)| vec![code(&name), help]).collect();
    let mut text =
        "Flags that override the configuration file and the environment. `--config` works \
                    with every command; each command lists its others:\n\n"
            .to_owned();
    text += &markdown(&["flag", "meaning"], rows);
    text.push('\n');
    describe(&root, "", "", &mut text);
    text
}

fn is_override(argument: &Arg) -> bool {
    argument.get_help_heading() == Some(CONFIGURATION)
}

/// Describes the subcommands of a command that do something. `outer` is the example of the command.
fn describe(command: &Command, path: &str, outer: &str, text: &mut String) {
    for own in command.get_subcommands().filter(|own| own.get_name() != "help") {
        let path = format!("{path} {}", own.get_name());
        let example = own.get_after_help().map_or(outer.to_owned(), ToString::to_string);
        if own.has_subcommands() {
            describe(own, &path, &example, text);
            continue;
        }
        let about = own.get_long_about().or(own.get_about()).map(ToString::to_string);
        let usage = usage(own, &path);
        let about = about.unwrap_or_default();
        let _ = write!(text, "### {}\n\n`{usage}`\n\n{}\n\n", path.trim(), sentence(&about));
        let own_arguments = arguments(own, |argument| !is_override(argument));
        if !own_arguments.is_empty() {
            let _ = writeln!(text, "{own_arguments}");
        }
        let others = own.get_arguments().filter(|own| is_override(own));
        let others = others.filter_map(|own| Some(format!("`--{}`", own.get_long()?)));
        let others: Vec<_> = others.filter(|flag| flag != "`--config`").collect();
        if !others.is_empty() {
            let _ = write!(text, "Configuration: {}.\n\n", others.join(", "));
        }
        if let Some(line) =
            example.strip_prefix("Example: ").filter(|line| line.contains(path.trim()))
        {
            let _ = write!(text, "Example: `{line}`\n\n");
        }
    }
}

/// The arguments without those of every command.
fn usage(command: &Command, path: &str) -> String {
    let own = command.get_arguments().filter(|argument| is_shown(argument));
    let parts = own.filter(|argument| !is_override(argument)).map(|argument| {
        let name = name(argument);
        if argument.is_required_set() { name } else { format!("[{name}]") }
    });
    format!("m4-user-details{path} {}", parts.collect::<Vec<_>>().join(" ")).trim().to_owned()
}

/// A table of arguments; empty without any.
fn arguments(command: &Command, is_meant: impl Fn(&Arg) -> bool) -> String {
    let own = command.get_arguments().filter(|own| is_shown(own) && is_meant(own));
    let rows: Vec<_> = own.map(|argument| vec![code(&name(argument)), help(argument)]).collect();
    if rows.is_empty() { String::new() } else { markdown(&["argument", "meaning"], rows) }
}

fn is_shown(argument: &Arg) -> bool {
    !["help", "version"].contains(&argument.get_id().as_str())
}

/// The flag with the name of its value, or the name of a positional argument.
fn name(argument: &Arg) -> String {
    let flag = argument.get_long().map(|long| format!("--{long}"));
    let values = argument.get_action().takes_values().then(|| {
        let names = argument.get_value_names().unwrap_or_default();
        let possible = argument.get_possible_values();
        if possible.len() > 1 {
            let words = possible.iter().map(|value| value.get_name().to_owned());
            words.collect::<Vec<_>>().join("|")
        } else {
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
    });
    [flag, values].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The help of an argument, with its values and its default.
fn help(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let mut text = sentence(&help.map(ToString::to_string).unwrap_or_default());
    for value in argument.get_possible_values().iter().filter(|value| value.get_help().is_some()) {
        let help = value.get_help().unwrap().to_string();
        let _ = write!(text, " `{}`: {}", value.get_name(), sentence(&help));
    }
    let defaults = argument.get_default_values();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(text, " Default: `{}`.", defaults[0].to_string_lossy());
    }
    text
}

/// The text in one line, with a full stop.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() || text.ends_with('.') { text } else { text + "." }
}
