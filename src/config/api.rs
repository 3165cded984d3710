//! The section `api`.

use std::path::PathBuf;

use secrecy::SecretString;

use super::{checks::Checks, section::section};
use crate::domain::hash::SecretKeys;

section! {
    /// The secret keys of legacy calls.
    Api("api.") {
        /// Secret key of legacy calls, taken verbatim.
        secret_key: Option<SecretString> = "",
        /// Previous secret key, still accepted during a rotation.
        secret_key_previous: Option<SecretString> = "",
        /// File with one secret key per line, the current key first, instead of the other keys.
        secret_key_file: Option<PathBuf> = "",
    }
}

impl Api {
    pub(super) fn secret_keys(self, checks: &mut Checks<'_>) -> SecretKeys {
        const FILE: &str = "api.secret_key_file";
        let keys: Vec<_> =
            [self.secret_key, self.secret_key_previous].into_iter().flatten().collect();
        let Some(file) = self.secret_key_file else { return SecretKeys::new(keys) };
        if !keys.is_empty() {
            checks.wrong(FILE, "cannot be set together with other secret keys");
        }
        SecretKeys::new(checks.lines(FILE, &file, "must name a file with one secret key per line"))
    }
}
