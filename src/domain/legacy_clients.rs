//! Which clients still make legacy calls: counted in memory, and stored in the background.

use std::{
    collections::HashMap,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::{
    account::Username,
    call_context::CallContext,
    error::{Error, chain},
    hash::Recipe,
    key_ring::Matched,
    scope::FieldSet,
};
use crate::{
    credentials::LegacyCredentials, networks::client_network, telemetry::instruments::instruments,
};

/// Maximum number of clients that are counted between two writes.
const MAX_CLIENTS: usize = 10_000;
/// Maximum number of addresses and usernames whose wrong hashes are counted between two writes.
const MAX_FAILED: usize = 1000;
/// Clients per transaction.
const BATCH: usize = 100;

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
    /// Adds an earlier tally.
    fn add(&mut self, earlier: &Self) {
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

/// A stored client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyClient {
    /// The client.
    pub id: ClientId,
    /// When it was first seen.
    pub first: DateTime<Utc>,
    /// When it was last seen.
    pub last: DateTime<Utc>,
    /// The number of calls with a right hash.
    pub calls: u64,
    /// The number of these calls that were refused or failed.
    pub refused: u64,
    /// The number of these calls that used GET.
    pub gets: u64,
    /// The number of wrong hashes from its network with its username, since it was first seen.
    pub failed_hashes: u64,
    /// The recipe of its last call: a name of [`Recipe`], or of a newer version.
    pub recipe: String,
    /// The paths of all fields that it has sent.
    pub fields: Vec<String>,
}

/// Which stored clients to list: those last seen first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientQuery {
    /// Only clients that were seen since this time.
    pub since: Option<DateTime<Utc>>,
    /// The time and the digest of the client behind which the page begins.
    pub after: Option<(i64, String)>,
    /// The maximum number of clients.
    pub limit: u64,
}

/// The stored clients.
#[async_trait]
pub trait LegacyClientStore: Send + Sync {
    /// Adds tallies, all or none. Returns the clients whose key was used from other networks before,
    /// but never from this network.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn add_legacy_clients(
        &self,
        clients: &[(ClientId, Tally)],
        failed: &[FailedHashes],
    ) -> Result<Vec<ClientId>, Error>;

    /// The stored clients.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn legacy_clients(
        &self,
        call: &CallContext,
        query: &ClientQuery,
    ) -> Result<Vec<LegacyClient>, Error>;
}

/// Counts legacy calls by client.
#[derive(Debug, Default)]
pub struct LegacyClients(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    clients: HashMap<ClientId, Tally>,
    failed: HashMap<(String, String), u64>,
    /// The number of calls of further clients.
    uncounted: u64,
}

impl LegacyClients {
    /// Counts a call with a right hash.
    pub fn called(
        &self,
        credentials: &LegacyCredentials,
        matched: &Matched,
        fields: FieldSet,
        is_refused: bool,
        now: DateTime<Utc>,
    ) {
        let id = ClientId {
            key: matched.key.name().to_owned(),
            network: client_network(&credentials.address),
            username: known(&credentials.username),
        };
        let tally = Tally {
            first: now,
            last: now,
            calls: 1,
            refused: u64::from(is_refused),
            gets: u64::from(credentials.is_get()),
            recipe: matched.recipe,
            fields,
        };
        self.counts().add(id, tally);
    }

    /// Counts a wrong hash.
    pub fn failed(&self, credentials: &LegacyCredentials) {
        let id = (client_network(&credentials.address), known(&credentials.username));
        self.counts().add_failed(id, 1);
    }

    /// Writes the counts to the storage. If that fails, keeps what was not written.
    pub async fn write(&self, store: &dyn LegacyClientStore) {
        let Counts { clients, failed, uncounted } = take(&mut *self.counts());
        if uncounted > 0 {
            tracing::warn!(
                calls = uncounted,
                "too many legacy clients at once: some are not counted"
            );
        }
        let mut clients: Vec<_> =
            clients.into_iter().map(|client| (client.0.digest(), client)).collect();
        // The same order in every replica, so that their transactions do not wait for each other.
        clients.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let clients: Vec<_> = clients.into_iter().map(|(_, client)| client).collect();
        let failed = failed.into_iter().map(|((network, username), count)| FailedHashes {
            network,
            username,
            count,
        });
        let mut failed: Vec<_> = failed.collect();
        let mut batches = clients.chunks(BATCH).peekable();
        loop {
            let batch = batches.next().unwrap_or_default();
            let is_last = batches.peek().is_none();
            let with = if is_last { take(&mut failed) } else { Vec::new() };
            if batch.is_empty() && with.is_empty() {
                return;
            }
            match store.add_legacy_clients(batch, &with).await {
                Ok(new) => new.iter().for_each(from_new_network),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the legacy clients could not be stored");
                    let mut counts = self.counts();
                    for (id, tally) in batch.iter().cloned().chain(batches.flatten().cloned()) {
                        counts.add(id, tally);
                    }
                    for FailedHashes { network, username, count } in with.into_iter().chain(failed)
                    {
                        counts.add_failed((network, username), count);
                    }
                    return;
                }
            }
            if is_last {
                return;
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, id: ClientId, tally: Tally) {
        if let Some(known) = self.clients.get_mut(&id) {
            if known.last <= tally.last {
                let earlier = std::mem::replace(known, tally);
                known.add(&earlier);
            } else {
                known.add(&tally);
            }
        } else if self.clients.len() < MAX_CLIENTS {
            self.clients.insert(id, tally);
        } else {
            self.uncounted += tally.calls;
        }
    }

    fn add_failed(&mut self, id: (String, String), count: u64) {
        if let Some(known) = self.failed.get_mut(&id) {
            *known += count;
        } else if self.failed.len() < MAX_FAILED {
            self.failed.insert(id, count);
        }
    }
}

fn from_new_network(client: &ClientId) {
    let ClientId { key, network, .. } = client;
    tracing::warn!(key, client.address = network, "a known key is used from a new address");
    if let Some(instruments) = instruments() {
        instruments.new_legacy_client(1);
    }
}

/// The username, if an account can have it.
fn known(username: &str) -> String {
    Username::parse(username).map(|username| username.as_str().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
