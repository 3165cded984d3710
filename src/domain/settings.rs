//! The stored settings of legacy calls.

use super::{error::Error, hash::Recipe};
use crate::{networks::Networks, retirement::Retirement};

/// The settings of legacy calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether legacy calls are answered at all.
    pub allow_api: bool,
    /// Whether legacy calls may use GET.
    pub allow_get_api: bool,
    /// The accepted hash recipes. Empty only if this version knows none of the stored recipes.
    pub hash_recipes: Vec<Recipe>,
    /// The networks from which legacy calls are accepted; empty for all.
    pub allowed_networks: Networks,
    /// How and when the legacy call ends.
    pub retirement: Retirement,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_api: true,
            allow_get_api: false,
            hash_recipes: vec![Recipe::UsernameUserId],
            allowed_networks: Networks::default(),
            retirement: Retirement::default(),
        }
    }
}

impl Settings {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the sunset is before the deprecation.
    pub fn check(&self) -> Result<(), Error> {
        if self.retirement.ends_too_early() {
            let problem = "must not be before deprecation (RFC 9745)".to_owned();
            return Err(Error::InvalidRequest { field: "settings.sunset", problem });
        }
        Ok(())
    }
}
