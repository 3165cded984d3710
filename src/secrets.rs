//! Secrets that are replaced while they are in use.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq};

/// A list of secrets, the current one first. The others are accepted during a rotation. Clones share
/// the list.
#[derive(Clone, Default)]
pub struct Secrets(Arc<RwLock<Arc<[SecretString]>>>);

impl Secrets {
    /// Keeps the secrets that are not empty.
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let new = Self::default();
        new.replace(secrets);
        new
    }

    /// Replaces the list in all clones. Keeps the secrets that are not empty.
    pub fn replace(&self, secrets: impl IntoIterator<Item = SecretString>) {
        let secrets = secrets.into_iter().filter(|secret| !secret.expose_secret().is_empty());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets.collect();
    }

    /// The secrets now.
    pub fn get(&self) -> Arc<[SecretString]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current secret.
    pub fn current(&self) -> Option<SecretString> {
        self.get().first().cloned()
    }

    /// Whether `text` is one of the secrets. The time depends only on the lengths and the number of
    /// secrets.
    pub fn contain(&self, text: &str) -> bool {
        let secrets = self.get();
        let equal = secrets.iter().map(|secret| {
            let secret = secret.expose_secret();
            secret.as_bytes().ct_eq(text.as_bytes())
        });
        equal.fold(Choice::from(0), |any, one| any | one).into()
    }

    /// Whether any secret has fewer characters.
    pub fn have_shorter_than(&self, characters: usize) -> bool {
        self.get().iter().any(|secret| secret.expose_secret().chars().count() < characters)
    }
}

impl fmt::Debug for Secrets {
    /// Omits the secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Secrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_their_secrets() {
        let secrets = Secrets::new(["".into(), "new".into(), "old".into()]);
        let clone = secrets.clone();
        assert!(clone.contain("new") && clone.contain("old"));
        assert!(!clone.contain("") && !clone.contain("ne") && !clone.contain("newer"));
        assert_eq!(clone.current().unwrap().expose_secret(), "new");
        secrets.replace(["newer".into()]);
        assert!(clone.contain("newer") && !clone.contain("new"));
        assert!(!Secrets::default().contain(""));
        assert_eq!(format!("{clone:?}"), "Secrets { .. }");
    }
}
