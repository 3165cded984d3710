//! Explains right and wrong hashes, to admins and to holders of the secret key.

use std::sync::Arc;

use secrecy::SecretString;

use super::{
    account::Username,
    hash::{Recipe, SecretKeys},
    key_ring::KeyRing,
    legacy_key::MatchedKey,
};
use crate::credentials::LegacyCredentials;

/// Number of user ids to try when a hash is wrong.
const TRIED_IDS: u32 = 10_000;

/// The explanation of a call's hash.
pub struct Explained {
    /// Each recipe, in the order of [`Recipe::ALL`].
    pub recipes: Vec<Hashed>,
    /// The verdict on the sent hash.
    pub verdict: Verdict,
}

impl Explained {
    /// The name of the matching key; empty without one.
    pub fn key_name(&self) -> &str {
        match &self.verdict {
            Verdict::Right { key, .. } => key.name(),
            _ => "",
        }
    }
}

/// A recipe, applied to a call.
pub struct Hashed {
    /// The recipe.
    pub recipe: Recipe,
    /// The text that is hashed before the secret key.
    pub before_key: String,
    /// The right hash with the current key; `None` without a key. This hash authorises the call.
    pub hash: Option<SecretString>,
}

/// The verdict on the sent hash.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// No secret key is configured.
    NoSecretKey,
    /// No hash was sent.
    Missing,
    /// Not 40 hexadecimal digits.
    NoSha1,
    /// Right.
    Right {
        /// The matching recipe.
        recipe: Recipe,
        /// The matching key.
        key: MatchedKey,
    },
    /// Made for this `user_id`, with the same `u` and a key of the configuration.
    OtherUserId(String),
    /// Made of other input.
    Wrong,
}

/// Explains the hash of a call. An empty hash means that the call has none.
pub fn hash(keys: &SecretKeys, ring: &KeyRing, credentials: &LegacyCredentials) -> Explained {
    let LegacyCredentials { username, user_id, .. } = credentials;
    let recipes = Recipe::ALL.into_iter().map(|recipe| Hashed {
        recipe,
        before_key: recipe.before_key(username, user_id).concat(),
        hash: keys.current().map(|key| hex::encode(recipe.hash(username, user_id, &key)).into()),
    });
    Explained { recipes: recipes.collect(), verdict: verdict(keys, ring, credentials) }
}

fn verdict(keys: &SecretKeys, ring: &KeyRing, credentials: &LegacyCredentials) -> Verdict {
    let LegacyCredentials { username, user_id, hash: sent, .. } = credentials;
    if keys.is_empty() && ring.is_empty() {
        return Verdict::NoSecretKey;
    }
    if sent.is_empty() {
        return Verdict::Missing;
    }
    if sent.len() != 40 || !sent.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Verdict::NoSha1;
    }
    for recipe in Recipe::ALL {
        let accepts = |key: SecretKeys| key.accept(&[recipe], username, user_id, sent);
        if let Some(number) = keys.one_by_one().position(accepts) {
            let key = if number == 0 { MatchedKey::Default } else { MatchedKey::Previous };
            return Verdict::Right { recipe, key };
        }
    }
    if let Some((recipe, key)) = ring.made_with(credentials) {
        return Verdict::Right { recipe, key: MatchedKey::Client(Arc::clone(key)) };
    }
    // A longer username belongs to no account and would slow down the search.
    let username = Username::parse(username);
    let username = username.as_ref().map(Username::as_str).unwrap_or_default();
    let made_for = |user_id: &String| keys.accept(&Recipe::ALL, username, user_id, sent);
    let other = (0..TRIED_IDS).map(|id| id.to_string()).find(made_for);
    other.map_or(Verdict::Wrong, Verdict::OtherUserId)
}
