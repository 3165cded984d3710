//! Clients of legacy calls, and the counts of their calls.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::{hash::Recipe, scope::FieldSet};

/// A client: a key, a network and a username.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// The name of the key.
    pub key: String,
    /// The IPv4 address, or the /64 network of the IPv6 address; empty if unknown.
    pub network: String,
    /// The parameter `u`.
    pub username: String,
}

impl ClientId {
    /// A digest that identifies the client.
    pub fn digest(&self) -> String {
        let Self { key, network, username } = self;
        let mut digest = Sha256::new();
        for part in [key, network, username] {
            digest.update(part);
            digest.update([0]);
        }
        hex::encode(digest.finalize())
    }
}

/// The calls of a client since the last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The time of the first call.
    pub first: DateTime<Utc>,
    /// The time of the last call.
    pub last: DateTime<Utc>,
    /// The number of calls with a right hash.
    pub calls: u64,
    /// The number of these calls that were refused or failed.
    pub refused: u64,
    /// The number of these calls that used GET.
    pub gets: u64,
    /// The recipe of the last call.
    pub recipe: Recipe,
    /// The fields of all these calls.
    pub fields: FieldSet,
}

impl Tally {
    /// Whether a call has stored its values.
    pub(super) fn has_stored(&self) -> bool {
        self.refused < self.calls
    }

    /// Adds an earlier tally.
    pub(super) fn add(&mut self, earlier: &Self) {
        self.first = self.first.min(earlier.first);
        self.calls += earlier.calls;
        self.refused += earlier.refused;
        self.gets += earlier.gets;
        self.fields.add(earlier.fields);
    }
}

/// The wrong hashes of an address with a username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedHashes {
    /// As in [`ClientId`].
    pub network: String,
    /// As in [`ClientId`].
    pub username: String,
    /// Their number.
    pub count: u64,
}
