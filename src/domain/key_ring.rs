//! Finds the key that a legacy call's hash was made with.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::{
    hash::Recipe,
    legacy_key::{ClientKey, MAX_ACTIVE_KEYS, MatchedKey},
};
use crate::credentials::LegacyCredentials;

/// Fewer client keys are faster without hints.
const MIN_HINTED: usize = 8;
/// Hints per key: clients with the same place take turns.
const HINTS_PER_KEY: usize = 8;

/// The client keys that are active now.
///
/// A right hash is compared with the key of the client's last call first. Only if that fails, it is
/// compared with all keys, whichever match: the time of a wrong hash depends on the number of keys.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<Arc<ClientKey>>,
    /// The number of the last matching key, from 1, by a hash of address and username. 0 is none.
    hints: Box<[AtomicU16]>,
    hasher: RandomState,
}

/// A recipe and a key that a hash was made with.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The recipe.
    pub recipe: Recipe,
    /// The key.
    pub key: MatchedKey,
}

/// The hashed parameters of a call under each recipe, before the key.
struct Prefixes([Sha1; Recipe::ALL.len()]);

impl Prefixes {
    fn of(credentials: &LegacyCredentials) -> Self {
        Self(Recipe::ALL.map(|recipe| {
            let parts = recipe.before_key(&credentials.username, &credentials.user_id);
            parts.iter().fold(Sha1::new(), Sha1::chain_update)
        }))
    }

    fn is_right(&self, recipe: Recipe, key: &SecretString, sent: &[u8; 20]) -> bool {
        let sha1 = self.0[recipe as usize].clone().chain_update(key.expose_secret());
        let hash: [u8; 20] = sha1.finalize().into();
        hash.ct_eq(sent).into()
    }
}

impl KeyRing {
    /// A ring of at most [`MAX_ACTIVE_KEYS`] keys.
    pub fn new(keys: impl IntoIterator<Item = ClientKey>) -> Self {
        let keys: Vec<_> = keys.into_iter().take(MAX_ACTIVE_KEYS).map(Arc::new).collect();
        let is_hinted = keys.len() >= MIN_HINTED;
        let hints = if is_hinted { (keys.len() * HINTS_PER_KEY).next_power_of_two() } else { 0 };
        let hints = (0..hints).map(|_| AtomicU16::new(0)).collect();
        Self { keys, hints, hasher: RandomState::new() }
    }

    /// Whether the ring has no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> &[Arc<ClientKey>] {
        &self.keys
    }

    /// The recipe and the key that a call's hash (hex of either case) was made with. `configured` are
    /// the keys of the configuration, the current one first; `accepted` are the recipes of the
    /// settings. The time does not depend on the number of matching bytes. Without `is_hinted`, right and
    /// wrong hashes take the same time.
    pub fn find(
        &self,
        configured: &[SecretString],
        accepted: &[Recipe],
        credentials: &LegacyCredentials,
        (now, is_hinted): (DateTime<Utc>, bool),
    ) -> Option<Matched> {
        let mut sent = [0; 20];
        let is_hash = hex::decode_to_slice(&credentials.hash, &mut sent).is_ok();
        let prefixes = Prefixes::of(credentials);
        let hint = self.hint(credentials).filter(|_| is_hinted);
        let of_client = |key: &Arc<ClientKey>| {
            let mut right = None;
            for recipe in key.recipes.as_deref().unwrap_or(accepted) {
                if prefixes.is_right(*recipe, &key.secret, &sent) {
                    right = Some(*recipe);
                }
            }
            right.map(|recipe| Matched { recipe, key: MatchedKey::Client(Arc::clone(key)) })
        };
        let of_configured = |index: usize, key: &SecretString| {
            let mut right = None;
            for recipe in accepted {
                if prefixes.is_right(*recipe, key, &sent) {
                    right.get_or_insert(*recipe);
                }
            }
            let key = if index == 0 { MatchedKey::Default } else { MatchedKey::Previous };
            right.map(|recipe| Matched { recipe, key })
        };
        let is_valid = |key: &ClientKey| is_hash && key.is_valid(now);
        if let Some(number) = hint.and_then(|hint| self.number(hint)) {
            let matched = match number.checked_sub(self.keys.len()) {
                None => self.keys.get(number).filter(|key| is_valid(key)).and_then(of_client),
                Some(index) => configured.get(index).and_then(|key| of_configured(index, key)),
            };
            if let Some(matched) = matched.filter(|_| is_hash) {
                return Some(matched);
            }
        }
        let mut found = None;
        for (index, key) in configured.iter().enumerate() {
            if let Some(matched) = of_configured(index, key) {
                found.get_or_insert((self.keys.len() + index, matched));
            }
        }
        for (index, key) in self.keys.iter().enumerate() {
            if let Some(matched) = of_client(key)
                && is_valid(key)
            {
                found.get_or_insert((index, matched));
            }
        }
        let (number, matched) = found.filter(|_| is_hash)?;
        if let (Some(hint), Ok(number)) = (hint, u16::try_from(number + 1)) {
            hint.store(number, Ordering::Relaxed);
        }
        Some(matched)
    }

    /// The recipe and the client key that a hash was made with, whatever recipes the key accepts.
    pub fn made_with(&self, credentials: &LegacyCredentials) -> Option<(Recipe, &Arc<ClientKey>)> {
        let mut sent = [0; 20];
        hex::decode_to_slice(&credentials.hash, &mut sent).ok()?;
        let prefixes = Prefixes::of(credentials);
        let pairs = self.keys.iter().flat_map(|key| Recipe::ALL.map(|recipe| (recipe, key)));
        pairs.into_iter().find(|(recipe, key)| prefixes.is_right(*recipe, &key.secret, &sent))
    }

    /// The place of a client's hint; `None` without hints.
    fn hint(&self, credentials: &LegacyCredentials) -> Option<&AtomicU16> {
        let mask = self.hints.len().checked_sub(1)?;
        let hash = self.hasher.hash_one((&credentials.address, &credentials.username));
        // Truncates: only the low bits count.
        self.hints.get(hash as usize & mask)
    }

    /// The number of the hinted key, from 0: the client keys first, then the configured ones.
    fn number(&self, hint: &AtomicU16) -> Option<usize> {
        usize::from(hint.load(Ordering::Relaxed)).checked_sub(1)
    }
}
