//! Known clients of legacy calls: the limit on failed hashes spares them.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::legacy_key::MatchedKey;

/// Maximum number of known clients in memory.
pub const MAX_KNOWN: usize = 100_000;

/// The keys and networks of calls that stored their values.
#[derive(Debug, Default)]
pub struct KnownClients {
    known: Mutex<Known>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether the stored clients were read.
    is_complete: bool,
    /// Hashes of networks.
    networks: HashSet<u64>,
    /// Hashes of key name and network.
    pairs: HashSet<u64>,
}

impl KnownClients {
    /// Adds a client: a network and the name of a key. Over the maximum, the client stays unknown, and so
    /// does an unknown address.
    pub fn add(&self, key: &str, network: &str) {
        if network.is_empty() {
            return;
        }
        let (pair, network) = (self.pair(key, network), self.hasher.hash_one(network));
        let mut known = self.known();
        if known.pairs.len() < MAX_KNOWN {
            known.pairs.insert(pair);
            known.networks.insert(network);
        }
    }

    /// From now on, clients that were not added are unknown. Until then, every client is known.
    pub fn complete(&self) {
        let mut known = self.known();
        known.is_complete = true;
        if known.pairs.len() >= MAX_KNOWN {
            tracing::warn!(clients = MAX_KNOWN, "too many known legacy clients: some are unknown");
        }
    }

    /// Whether a key was used from a network.
    pub fn has(&self, key: &str, network: &str) -> bool {
        let pair = self.pair(key, network);
        let known = self.known();
        !known.is_complete || known.pairs.contains(&pair)
    }

    /// Whether any key was used from a network.
    pub fn has_network(&self, network: &str) -> bool {
        let network = self.hasher.hash_one(network);
        let known = self.known();
        !known.is_complete || known.networks.contains(&network)
    }

    /// The configured keys count as one: a rotation makes the default key the previous one.
    fn pair(&self, key: &str, network: &str) -> u64 {
        let is_previous = key == MatchedKey::Previous.name();
        let key = if is_previous { MatchedKey::Default.name() } else { key };
        self.hasher.hash_one((key, network))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
