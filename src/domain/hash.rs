//! The hash of legacy calls: lower-case hex SHA-1 of some parameters and the secret key.
//!
//! Weak by design: a plain concatenation that covers neither the changed fields nor a time.

use secrecy::{ExposeSecret, SecretString};
use sha1::{Digest, Sha1};
use subtle::{Choice, ConstantTimeEq};

use crate::secrets::Secrets;

/// The secret key of the demo data. It is public.
pub const DEMO_KEY: &str = "secret";

/// The data that is hashed before the secret key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// `u`, then `user_id`: the documented recipe.
    UsernameUserId,
    /// `user_id` alone: the recipe of older products of the family.
    UserId,
}

impl Recipe {
    /// Every recipe.
    pub const ALL: [Self; 2] = [Self::UsernameUserId, Self::UserId];

    /// The name in settings: the hashed parameters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UsernameUserId => "u,user_id",
            Self::UserId => "user_id",
        }
    }

    /// The recipe for a name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|recipe| recipe.as_str() == word)
    }

    /// Recipes without repetitions.
    pub fn distinct(recipes: &[Self]) -> Vec<Self> {
        Self::ALL.into_iter().filter(|recipe| recipes.contains(recipe)).collect()
    }

    /// The names of recipes, joined by `+`.
    pub fn joined(recipes: &[Self]) -> String {
        recipes.iter().map(|recipe| recipe.as_str()).collect::<Vec<_>>().join("+")
    }

    /// Parses the names of recipes, joined by `+`.
    pub fn from_joined(names: &str) -> Option<Vec<Self>> {
        let recipes: Option<Vec<_>> = names.split('+').map(Self::from_word).collect();
        recipes.map(|recipes| Self::distinct(&recipes))
    }

    /// The texts that are hashed before the key, in order.
    pub fn before_key<'a>(self, username: &'a str, user_id: &'a str) -> [&'a str; 2] {
        match self {
            Self::UsernameUserId => [username, user_id],
            Self::UserId => ["", user_id],
        }
    }

    /// The hash of a call with a key.
    pub fn hash(self, username: &str, user_id: &str, key: &SecretString) -> [u8; 20] {
        let mut sha1 = Sha1::new();
        for part in self.before_key(username, user_id) {
            sha1.update(part);
        }
        sha1.update(key.expose_secret());
        sha1.finalize().into()
    }
}

/// The accepted secret keys, the current key first. Several keys are active during a rotation.
#[derive(Clone, Debug, Default)]
pub struct SecretKeys(pub Secrets);

impl SecretKeys {
    /// Keeps the keys that are not empty.
    pub fn new(keys: impl IntoIterator<Item = SecretString>) -> Self {
        Self(Secrets::new(keys))
    }

    /// Whether any key is the demo key.
    pub fn have_demo_key(&self) -> bool {
        self.0.get().iter().any(|key| key.expose_secret() == DEMO_KEY)
    }

    /// Whether any key has fewer characters.
    pub fn have_shorter_than(&self, characters: usize) -> bool {
        self.0.have_shorter_than(characters)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.get().is_empty()
    }

    /// The key for new hashes.
    pub fn current(&self) -> Option<SecretString> {
        self.0.current()
    }

    /// Each key alone, the current one first.
    pub fn one_by_one(&self) -> impl Iterator<Item = Self> {
        let keys = self.0.get().to_vec();
        keys.into_iter().map(|key| Self::new([key]))
    }

    /// Whether `hash` (hex of either case) is right for the parameters under any recipe and key.
    /// The time does not depend on the matching recipe or key, or on the number of matching bytes.
    pub fn accept(&self, recipes: &[Recipe], username: &str, user_id: &str, hash: &str) -> bool {
        let mut sent = [0; 20];
        if hex::decode_to_slice(hash, &mut sent).is_err() {
            return false;
        }
        let mut right = Choice::from(0);
        let keys = self.0.get();
        for recipe in recipes {
            for key in &*keys {
                right |= recipe.hash(username, user_id, key).ct_eq(&sent);
            }
        }
        right.into()
    }
}
