//! Where values come from.

use std::{fmt, path::Path};

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use super::keys::KEYS;

/// Everything that is wrong in a configuration.
#[derive(Clone, Debug)]
pub struct ConfigErrors(pub(super) Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the configuration is wrong:")?;
        for error in &self.0 {
            write!(formatter, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The layers, merged: defaults, file, environment, flags.
#[derive(Clone, Debug)]
pub struct Layers(Figment);

impl Layers {
    /// Merges the layers. `flags` are keys and values; `env` tells an environment variable's value.
    pub fn new(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
        flags: Vec<(&'static str, String)>,
    ) -> Self {
        let defaults = KEYS.iter().map(|key| (key.path, key.default.to_owned())).collect();
        let variables = KEYS.iter().filter_map(|key| Some((key.path, env(key.env)?))).collect();
        let mut figment = Figment::from(Texts("default", defaults));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        Self(figment.merge(Texts("environment", variables)).merge(Texts("flag", flags)))
    }

    /// A value as text, exactly as written.
    ///
    /// # Errors
    /// Where it is no single value, or the file cannot be read.
    pub(super) fn text(&self, key: &str) -> Result<String, String> {
        // A file that cannot be read is told of once, by `unknown`.
        let Ok(value) = self.0.find_value(key) else { return Ok(String::new()) };
        match value {
            Value::String(_, text) => Ok(text),
            Value::Bool(_, flag) => Ok(flag.to_string()),
            Value::Num(_, number) => {
                let integer = number.to_i128().map(|number| number.to_string());
                integer.ok_or_else(|| "must be a whole number".to_owned())
            }
            _ => Err("must be a single value".to_owned()),
        }
    }

    /// Which layer a value comes from.
    pub fn source(&self, key: &str) -> String {
        self.0.find_metadata(key).map_or("default".to_owned(), |found| match &found.source {
            Some(source) => source.to_string(),
            None => found.name.to_string(),
        })
    }

    /// What the file has that is no key, or why it cannot be read.
    pub(super) fn unknown(&self) -> Vec<String> {
        let data = match self.0.data() {
            Ok(data) => data,
            Err(error) => return error.into_iter().map(|error| error.to_string()).collect(),
        };
        let mut unknown = Vec::new();
        for (name, value) in data.into_values().flatten() {
            let paths = match value.as_dict() {
                Some(table) => table.keys().map(|leaf| format!("{name}.{leaf}")).collect(),
                None => vec![name],
            };
            let is_unknown = |path: &String| !KEYS.iter().any(|key| key.path == path);
            unknown.extend(paths.into_iter().filter(is_unknown));
        }
        unknown.into_iter().map(|path| format!("{path} is no configuration key")).collect()
    }

    /// The effective values, one a line, with secrets masked and the layer that each comes from.
    pub fn show(&self) -> String {
        let line = |key: &super::Key| {
            let text = self.text(key.path).unwrap_or_default();
            let shown = match (key.secret, text.is_empty()) {
                (true, false) => "(set)".to_owned(),
                _ => without_password(&text),
            };
            format!("{} = {shown:?}  # {}; {}\n", key.path, self.source(key.path), key.help)
        };
        KEYS.iter().map(line).collect()
    }
}

/// A URL without its password.
fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let (user, host) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

/// A layer of texts, taken verbatim: the name of the layer, and keys with their values.
struct Texts(&'static str, Vec<(&'static str, String)>);

impl Provider for Texts {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut data = Dict::new();
        for (key, text) in &self.1 {
            let text = Value::from(text.as_str());
            match key.split_once('.') {
                None => data.insert((*key).to_owned(), text),
                Some((table, leaf)) => {
                    let table = data.entry(table.to_owned()).or_insert_with(|| Dict::new().into());
                    let Value::Dict(_, table) = table else { continue };
                    table.insert(leaf.to_owned(), text)
                }
            };
        }
        Ok(Profile::Default.collect(data))
    }
}
