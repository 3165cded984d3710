//! The stored settings of legacy calls.

use super::hash::Recipe;
use crate::networks::Networks;

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_api: true,
            allow_get_api: false,
            hash_recipes: vec![Recipe::UsernameUserId],
            allowed_networks: Networks::default(),
        }
    }
}
