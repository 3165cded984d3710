//! The configuration layers.

use std::{ffi::OsString, fmt, path::Path};

use figment::{
    Figment, Provider,
    error::Kind,
    providers::{Format, Toml},
};

use super::{
    checks::Checks,
    layer::{Layer, merge, name, source},
    masked::{shown, url_without_secrets, without_secrets},
    section::Key,
    settings::{Settings, keys},
    unknown,
    value::Scalar,
    variables,
};

/// All errors in a configuration.
#[derive(Clone, Debug)]
pub struct ConfigErrors(pub(super) Vec<String>);

impl ConfigErrors {
    /// Each error as a sentence.
    pub fn each(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "invalid configuration:")?;
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
    /// Unreadable layers, and unknown keys and variables.
    errors: Vec<String>,
}

impl Layers {
    /// Merges the layers. `environment` has all variables of the process; `flags` are keys and
    /// values.
    pub fn new(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Vec<(&'static str, String)>,
    ) -> Self {
        let mut errors = Vec::new();
        let mut figment = merge(Figment::new(), "default", defaults(""));
        if let Some(file) = file {
            let toml = Toml::file_exact(file);
            match toml.data() {
                Ok(data) => figment = figment.merge(Layer(toml.metadata(), data)),
                Err(error) => errors.push(format!("{}: {}", file.display(), shown(&error))),
            }
        }
        figment = merge(figment, "environment", variables::read(environment, &mut errors));
        figment = merge(figment, "flag", flags);
        for data in figment.data().unwrap_or_default().values() {
            errors.extend(unknown::paths(data).into_iter().map(|(path, tag)| {
                let known = keys().map(|key| key.path.to_owned());
                unknown::error(&path, name(figment.get_metadata(tag)), known)
            }));
        }
        Self { figment, errors }
    }

    /// Extracts all values, and the errors of all layers. The values are `None` only with an error.
    ///
    /// Figment stops at the first wrong value. That value is reported and replaced by its default,
    /// and extraction starts again.
    pub(super) fn extract(&self) -> (Option<Settings>, Vec<String>) {
        let (mut figment, mut errors) = (self.figment.clone(), self.errors.clone());
        for _ in 0..=keys().count() {
            let error = match figment.extract() {
                Ok(settings) => return (Some(settings), errors),
                Err(error) => error,
            };
            let problem = match error.kind {
                Kind::Message(problem) => problem,
                Kind::InvalidType(_, expected) => format!("must be {expected}"),
                _ => "cannot be used".to_owned(),
            };
            let path = error.path.join(".");
            errors.push(format!("{path} ({}) {problem}", source(&self.figment, &path)));
            figment = merge(figment, "default", defaults(&path));
        }
        (None, errors)
    }

    /// The checks of extracted values, with the errors so far.
    pub(super) fn checks(&self, errors: Vec<String>) -> Checks<'_> {
        Checks { figment: &self.figment, errors, secret_files: Vec::new() }
    }

    /// The effective values, one per line, with masked secrets and the source layers.
    pub fn show(&self) -> String {
        let line = |key: &Key| {
            let text = self.figment.extract_inner(key.path).map(Scalar::into_text);
            let text = text.unwrap_or_default();
            let shown = match (key.secret, text.is_empty()) {
                (true, false) => "(set)".to_owned(),
                _ if key.path == "database.url" => url_without_secrets(&text),
                _ => without_secrets(&text),
            };
            format!(
                "{} = {shown:?}  # {}; {}\n",
                key.path,
                source(&self.figment, key.path),
                key.help
            )
        };
        keys().map(line).collect()
    }
}

/// The defaults of a key, of a section, or of everything.
fn defaults(path: &str) -> Vec<(&'static str, String)> {
    let is_within = |key: &&Key| {
        let rest = key.path.strip_prefix(path);
        rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('.'))
    };
    keys().filter(is_within).map(|key| (key.path, key.default.to_owned())).collect()
}
