//! Checks of values that depend on files or on other values. All errors are collected.

use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use figment::Figment;
use secrecy::{ExposeSecret, SecretString};

use super::{layer::source, secret_file::SecretFile};
use crate::{
    secrets::Secrets,
    tls::{File, Reloading, Source},
};

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
    /// The files of secrets.
    pub(super) secret_files: Vec<Reloading<SecretFile>>,
}

impl Checks<'_> {
    /// Reports a key. `problem` is the end of a sentence that begins with the key.
    pub(super) fn wrong(&mut self, key: &str, problem: impl fmt::Display) {
        self.errors.push(format!("{key} ({}) {problem}", source(self.figment, key)));
    }

    /// Secrets from their keys, or from a file.
    pub(super) fn secrets(
        &mut self,
        own: &[(&str, Option<&SecretString>)],
        (file_key, path): PathOf<'_>,
        check: fn(&str) -> Result<(), &'static str>,
    ) -> Secrets {
        let own = own.iter().filter_map(|(key, secret)| Some((*key, (*secret)?)));
        let own: Vec<_> = own.collect();
        let secrets = Secrets::new(own.iter().map(|(_, secret)| (*secret).clone()));
        for (key, secret) in &own {
            if let Err(problem) = check(secret.expose_secret()) {
                self.wrong(key, problem);
            }
        }
        let Some(file) = file((file_key, path)) else { return secrets };
        if let Some((key, _)) = own.first() {
            self.wrong(file_key, format_args!("cannot be set together with {key}"));
        }
        let source = SecretFile {
            file,
            secrets: secrets.clone(),
            check,
            admits_demo_key: Arc::new(AtomicBool::new(true)),
        };
        let read = self.reloading(source);
        self.secret_files.extend(read);
        secrets
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

    /// Reads the files of a configuration.
    pub(super) fn reloading<S: Source>(&mut self, source: S) -> Option<Reloading<S>> {
        Reloading::read(source).map_err(|error| self.wrong(error.key, error.problem)).ok()
    }
}
