//! The configuration layers.

use std::{ffi::OsString, fmt, path::Path};

use figment::{
    Error, Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use super::{
    keys::KEYS,
    masked::{shown, url_without_secrets, without_secrets},
};

/// All errors in a configuration.
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

/// The merged layers: defaults, file, environment, flags.
#[derive(Clone)]
pub struct Layers {
    figment: Figment,
    /// Errors of unreadable layers and values.
    unreadable: Vec<String>,
}

impl Layers {
    /// Merges the layers. `flags` are keys and values; `env` reads an environment variable.
    pub fn new(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
        flags: Vec<(&'static str, String)>,
    ) -> Self {
        let mut unreadable = Vec::new();
        let defaults = KEYS.iter().map(|key| (key.path, key.default.to_owned())).collect();
        let mut figment = Figment::from(Texts("default", defaults));
        if let Some(file) = file {
            let toml = Toml::file_exact(file);
            match toml.data() {
                Ok(_) => figment = figment.merge(toml),
                Err(error) => unreadable.push(format!("{}: {}", file.display(), shown(&error))),
            }
        }
        let mut variables = Vec::new();
        for key in KEYS {
            match env(key.env).map(OsString::into_string) {
                None => {}
                Some(Ok(text)) => variables.push((key.path, text)),
                Some(Err(_)) => unreadable.push(format!("{} is not UTF-8", key.env)),
            }
        }
        figment = figment.merge(Texts("environment", variables)).merge(Texts("flag", flags));
        Self { figment, unreadable }
    }

    /// A value as text, exactly as written.
    ///
    /// # Errors
    /// If the value is neither text, a flag nor a whole number.
    pub(super) fn text(&self, key: &str) -> Result<String, String> {
        let Ok(value) = self.figment.find_value(key) else { return Ok(String::new()) };
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

    /// The layer of a value.
    pub fn source(&self, key: &str) -> String {
        self.figment.find_metadata(key).map_or("default".to_owned(), |found| match &found.source {
            Some(source) => source.to_string(),
            None => found.name.to_string(),
        })
    }

    /// Unreadable layers and values, and unknown keys.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for (name, value) in self.figment.data().into_iter().flatten().flat_map(|(_, data)| data) {
            let paths = match value.as_dict() {
                Some(table) => table.keys().map(|leaf| format!("{name}.{leaf}")).collect(),
                None => vec![name],
            };
            let is_unknown = |path: &String| !KEYS.iter().any(|key| key.path == path);
            unknown.extend(paths.into_iter().filter(is_unknown));
        }
        let unknown = unknown.into_iter().map(|path| match is_plain(&path) {
            true => format!("{path} is no configuration key"),
            false => "a name that is not shown is no configuration key".to_owned(),
        });
        self.unreadable.iter().cloned().chain(unknown).collect()
    }

    /// The effective values, one per line, with masked secrets and the source layers.
    pub fn show(&self) -> String {
        let line = |key: &super::Key| {
            let text = self.text(key.path).unwrap_or_default();
            let shown = match (key.secret, text.is_empty()) {
                (true, false) => "(set)".to_owned(),
                _ if key.path == "database.url" => url_without_secrets(&text),
                _ => without_secrets(&text),
            };
            format!("{} = {shown:?}  # {}; {}\n", key.path, self.source(key.path), key.help)
        };
        KEYS.iter().map(line).collect()
    }
}

/// Whether a path looks like a configuration key and not like a secret.
fn is_plain(path: &str) -> bool {
    path.len() <= 64 && path.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'.'))
}

/// A layer of verbatim texts: the layer's name, and keys with their values.
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
