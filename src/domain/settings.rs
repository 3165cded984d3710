//! The switches of the legacy call, which live in the database.

use super::hash::Recipe;

/// The switches of the legacy call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether legacy calls are answered at all.
    pub allow_api: bool,
    /// Whether legacy calls may use GET.
    pub allow_get_api: bool,
    /// Which hashes are accepted; none only where just newer versions know those that are set.
    pub hash_recipes: Vec<Recipe>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { allow_api: true, allow_get_api: false, hash_recipes: vec![Recipe::UsernameUserId] }
    }
}
