//! Checks of values that depend on files or on other values. All errors are collected.

use std::{fmt, fs, path::Path};

use figment::Figment;
use secrecy::{ExposeSecret, SecretString};

use super::layer::source;
use crate::tls::{File, Reloading, Source};

/// A configuration key and the path that it is set to.
pub(super) type PathOf<'a> = (&'static str, Option<&'a Path>);

/// The file that a key is set to.
pub(super) fn file((key, path): PathOf<'_>) -> Option<File> {
    path.map(|path| File { key, path: path.into() })
}

/// The merged layers, and the errors so far.
pub(super) struct Checks<'a> {
    pub(super) figment: &'a Figment,
    pub(super) errors: Vec<String>,
}

impl Checks<'_> {
    /// Reports a key. `problem` is the end of a sentence that begins with the key.
    pub(super) fn wrong(&mut self, key: &str, problem: impl fmt::Display) {
        self.errors.push(format!("{key} ({}) {problem}", source(self.figment, key)));
    }

    /// A secret from its key, or from the first line of a file.
    pub(super) fn secret(
        &mut self,
        (key, secret): (&str, Option<&SecretString>),
        (file_key, file): PathOf<'_>,
    ) -> Option<SecretString> {
        let Some(file) = file else { return secret.cloned() };
        if secret.is_some() {
            self.wrong(file_key, format_args!("cannot be set together with {key}"));
            return None;
        }
        let lines =
            self.lines(file_key, file, "must name a file with the secret on its first line");
        lines.into_iter().next()
    }

    /// The non-empty lines of a file, at least one; otherwise `expected` is reported.
    pub(super) fn lines(&mut self, key: &str, file: &Path, expected: &str) -> Vec<SecretString> {
        let text = match fs::read_to_string(file) {
            Ok(text) => SecretString::from(text),
            Err(error) => {
                self.wrong(key, format_args!("cannot be read: {}", error.kind()));
                return Vec::new();
            }
        };
        let lines = text.expose_secret().lines().filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.map(SecretString::from).collect();
        if lines.is_empty() {
            self.wrong(key, expected);
        }
        lines
    }

    /// A certificate and its key: both or none.
    pub(super) fn pair(
        &mut self,
        certificate: PathOf<'_>,
        key: PathOf<'_>,
    ) -> Option<(File, File)> {
        match (file(certificate), file(key)) {
            (Some(certificate), Some(key)) => return Some((certificate, key)),
            (None, None) => {}
            (Some(_), None) => self.wrong(certificate.0, format_args!("needs {}", key.0)),
            (None, Some(_)) => self.wrong(key.0, format_args!("needs {}", certificate.0)),
        }
        None
    }

    /// Reads the files of a TLS configuration.
    pub(super) fn tls<S: Source>(&mut self, source: S) -> Option<Reloading<S>> {
        Reloading::read(source).map_err(|error| self.wrong(error.key, error.problem)).ok()
    }
}
