//! What a hash is made of, and what a wrong one may have been made of instead. For admins, and those who have the secret key.

use secrecy::SecretString;

use super::{
    account::Username,
    hash::{Recipe, SecretKeys},
};

/// How many user ids are tried to find out for which one a wrong hash was made.
const TRIED_IDS: u32 = 10_000;

/// What the hash of a call is made of, and what the one that was sent is.
pub struct Explained {
    /// Each recipe, in the order of [`Recipe::ALL`].
    pub recipes: Vec<Hashed>,
    /// What the hash that was sent is.
    pub verdict: Verdict,
}

/// A recipe, applied to a call.
pub struct Hashed {
    /// The recipe.
    pub recipe: Recipe,
    /// What is hashed before the secret key.
    pub before_key: String,
    /// The right hash, made with the current key; none without a key. It lets whoever has it make the call.
    pub hash: Option<SecretString>,
}

/// What the hash that was sent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is no secret key to tell.
    NoSecretKey,
    /// None was sent.
    Missing,
    /// Not 40 hexadecimal digits.
    NoSha1,
    /// Right.
    Right {
        /// By which recipe.
        recipe: Recipe,
        /// Whether it was made with a key that is being retired.
        previous_key: bool,
    },
    /// Made for this `user_id`, with the same `u` and a key that is accepted.
    OtherUserId(String),
    /// Made of something else.
    Wrong,
}

/// Explains the hash of a call, and what is wrong with the one that was sent; an empty one is none.
pub fn hash(keys: &SecretKeys, username: &str, user_id: &str, sent: &str) -> Explained {
    let recipes = Recipe::ALL.into_iter().map(|recipe| Hashed {
        recipe,
        before_key: recipe.before_key(username, user_id).concat(),
        hash: keys.current().map(|key| hex::encode(recipe.hash(username, user_id, key)).into()),
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
    // A longer one would make the search long, and is nobody's.
    let username = Username::parse(username);
    let username = username.as_ref().map(Username::as_str).unwrap_or_default();
    let made_for = |user_id: &String| keys.accept(&Recipe::ALL, username, user_id, sent);
    let other = (0..TRIED_IDS).map(|id| id.to_string()).find(made_for);
    other.map_or(Verdict::Wrong, Verdict::OtherUserId)
}
