//! The section `api`.

use std::path::PathBuf;

use secrecy::SecretString;

use super::{checks::Checks, secret_file, section::section};
use crate::domain::{hash::SecretKeys, master_key::MasterKeys};

section! {
    /// The secret keys of legacy calls.
    Api("api.") {
        /// Secret key of legacy calls, taken verbatim.
        secret_key: Option<SecretString> = "",
        /// Previous secret key, still accepted during a rotation.
        secret_key_previous: Option<SecretString> = "",
        /// File with one secret key per line, the current key first, instead of the other keys. Read
        /// again when it changes.
        secret_key_file: Option<PathBuf> = "",
        /// File with one master key of 64 hexadecimal digits per line, the current key first. Master keys
        /// seal the secrets of client keys. Read again when it changes.
        master_key_file: Option<PathBuf> = "",
    }
}

impl Api {
    pub(super) fn secret_keys(&self, checks: &mut Checks<'_>) -> SecretKeys {
        let own = [
            ("api.secret_key", self.secret_key.as_ref()),
            ("api.secret_key_previous", self.secret_key_previous.as_ref()),
        ];
        let file = ("api.secret_key_file", self.secret_key_file.as_deref());
        SecretKeys(checks.secrets(&own, file, secret_file::any))
    }

    pub(super) fn master_keys(&self, checks: &mut Checks<'_>) -> MasterKeys {
        let file = ("api.master_key_file", self.master_key_file.as_deref());
        MasterKeys(checks.secrets(&[], file, MasterKeys::check))
    }
}
