//! Explains right and wrong hashes, to admins and to holders of the secret key.

use secrecy::SecretString;

use super::{
    account::Username,
    hash::{Recipe, SecretKeys},
};

/// Number of user ids to try when a hash is wrong.
const TRIED_IDS: u32 = 10_000;

/// The explanation of a call's hash.
pub struct Explained {
    /// Each recipe, in the order of [`Recipe::ALL`].
    pub recipes: Vec<Hashed>,
    /// The verdict on the sent hash.
    pub verdict: Verdict,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
        /// Whether the matching key is being retired.
        previous_key: bool,
    },
    /// Made for this `user_id`, with the same `u` and an accepted key.
    OtherUserId(String),
    /// Made of other input.
    Wrong,
}

/// Explains the hash of a call. An empty `sent` means that the call has no hash.
pub fn hash(keys: &SecretKeys, username: &str, user_id: &str, sent: &str) -> Explained {
    let recipes = Recipe::ALL.into_iter().map(|recipe| Hashed {
        recipe,
        before_key: recipe.before_key(username, user_id).concat(),
        hash: keys.current().map(|key| hex::encode(recipe.hash(username, user_id, &key)).into()),
    });
    Explained { recipes: recipes.collect(), verdict: verdict(keys, username, user_id, sent) }
}

fn verdict(keys: &SecretKeys, username: &str, user_id: &str, sent: &str) -> Verdict {
    if keys.is_empty() {
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
            return Verdict::Right { recipe, previous_key: number > 0 };
        }
    }
    // A longer username belongs to no account and would slow down the search.
    let username = Username::parse(username);
    let username = username.as_ref().map(Username::as_str).unwrap_or_default();
    let made_for = |user_id: &String| keys.accept(&Recipe::ALL, username, user_id, sent);
    let other = (0..TRIED_IDS).map(|id| id.to_string()).find(made_for);
    other.map_or(Verdict::Wrong, Verdict::OtherUserId)
}
