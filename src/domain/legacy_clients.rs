//! Which clients still make legacy calls: counted in memory, and stored in the background.

use std::{
    collections::HashMap,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    account::Username,
    error::{Error, Refusal, chain},
    key_ring::Matched,
    known_clients::KnownClients,
    legacy_client::{ClientId, FailedHashes, Tally},
    legacy_client_store::LegacyClientStore,
    scope::FieldSet,
};
use crate::{
    credentials::LegacyCredentials, networks::client_network, telemetry::instruments::instruments,
};

/// Maximum number of clients that are counted between two writes.
const MAX_CLIENTS: usize = 10_000;
/// Maximum number of addresses and usernames whose wrong hashes are counted between two writes.
const MAX_FAILED: usize = 1000;
/// Clients, and wrong hashes, per transaction.
const BATCH: usize = 100;

/// Maximum difference between the clocks of replicas.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::minutes(1);

/// Counts legacy calls by client.
#[derive(Debug, Default)]
pub struct LegacyClients {
    counts: Mutex<Counts>,
    /// The known clients.
    pub known: KnownClients,
}

#[derive(Debug, Default)]
struct Counts {
    clients: foldhash::HashMap<ClientId, Tally>,
    failed: HashMap<(String, String), u64>,
    /// The number of calls of further clients.
    uncounted: u64,
}

impl LegacyClients {
    /// Begins to count a call with a right hash.
    pub fn begin<'a>(
        &'a self,
        credentials: &'a LegacyCredentials,
        matched: &'a Matched,
        fields: FieldSet,
        now: DateTime<Utc>,
    ) -> Counting<'a> {
        let (is_refused, has_account) = (Some(true), false);
        Counting { clients: self, credentials, matched, fields, now, is_refused, has_account }
    }

    /// Counts a wrong hash.
    pub fn failed(&self, credentials: &LegacyCredentials) {
        let id = (client_network(&credentials.address), known(&credentials.username));
        self.counts().add_failed(id, 1);
    }

    /// Writes the counts to the storage, in batches. If that fails, keeps what was not written.
    pub async fn write(&self, store: &dyn LegacyClientStore) {
        loop {
            let (clients, failed) = self.counts().take_batch();
            if clients.is_empty() && failed.is_empty() {
                return;
            }
            match store.add_legacy_clients(&clients, &failed).await {
                Ok(new) => {
                    new.iter().for_each(from_new_network);
                    clients.iter().for_each(record);
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the legacy clients could not be stored");
                    let mut counts = self.counts();
                    clients.into_iter().for_each(|(id, tally)| counts.add(id, tally, &self.known));
                    for FailedHashes { network, username, count } in failed {
                        counts.add_failed((network, username), count);
                    }
                    return;
                }
            }
        }
    }

    /// Adds the stored clients that were seen since a time to the known ones, if they have stored a
    /// call.
    ///
    /// # Errors
    /// The errors of [`LegacyClientStore::known_clients`].
    pub async fn read_known(
        &self,
        store: &dyn LegacyClientStore,
        since: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        let since = since.map(|since| since - CLOCK_DIFFERENCE);
        for (key, network) in store.known_clients(since).await? {
            self.known.add(&key, &network);
        }
        self.known.complete();
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a call when it is dropped, for example at the call's deadline: as stored after
/// [`Self::stored`], otherwise as refused.
pub struct Counting<'a> {
    clients: &'a LegacyClients,
    credentials: &'a LegacyCredentials,
    matched: &'a Matched,
    fields: FieldSet,
    now: DateTime<Utc>,
    /// `None` if the call is not counted.
    is_refused: Option<bool>,
    /// Whether the username is that of an account. A client can send any number of others.
    has_account: bool,
}

impl Counting<'_> {
    /// Counts a call that stored its values.
    pub fn stored(mut self) {
        (self.is_refused, self.has_account) = (Some(false), true);
    }

    /// Counts a call of an account that only checked its values.
    pub fn checked(mut self) {
        self.has_account = true;
    }

    /// Counts a refused call. Its username is that of an account if the error shows that.
    pub fn refused(mut self, error: &Error) {
        self.has_account = match error {
            Error::ActorRefused(refusal) => *refusal != Refusal::Unknown,
            Error::NotAuthorized | Error::UserNotFound(_) | Error::Invalid(_) => true,
            _ => false,
        };
    }

    /// Leaves the call to a later count.
    pub fn not_yet(mut self) {
        self.is_refused = None;
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        let Some(is_refused) = self.is_refused else { return };
        let Matched { recipe, key } = self.matched;
        let username = if self.has_account { &*self.credentials.username } else { "" };
        let id = ClientId {
            key: key.name().to_owned(),
            network: client_network(&self.credentials.address),
            username: known(username),
        };
        let tally = Tally {
            first: self.now,
            last: self.now,
            calls: 1,
            refused: u64::from(is_refused),
            gets: u64::from(self.credentials.is_get()),
            recipe: *recipe,
            fields: self.fields,
        };
        self.clients.counts().add(id, tally, &self.clients.known);
    }
}

impl Counts {
    /// Takes up to [`BATCH`] clients, and as many wrong hashes.
    fn take_batch(&mut self) -> (Vec<(ClientId, Tally)>, Vec<FailedHashes>) {
        let uncounted = take(&mut self.uncounted);
        if uncounted > 0 {
            tracing::warn!(
                calls = uncounted,
                "too many legacy clients: some calls are not counted"
            );
        }
        let ids: Vec<_> = self.clients.keys().take(BATCH).cloned().collect();
        let clients = ids.into_iter().filter_map(|id| self.clients.remove_entry(&id)).collect();
        let ids: Vec<_> = self.failed.keys().take(BATCH).cloned().collect();
        let failed = ids.into_iter().filter_map(|id| self.failed.remove_entry(&id));
        let failed =
            failed.map(|((network, username), count)| FailedHashes { network, username, count });
        (clients, failed.collect())
    }

    /// Adds the calls of a client. Its first stored call makes it known.
    fn add(&mut self, id: ClientId, tally: Tally, known: &KnownClients) {
        let counted = self.clients.get_mut(&id);
        if tally.has_stored() && !counted.as_ref().is_some_and(|counted| counted.has_stored()) {
            known.add(&id.key, &id.network);
        }
        if let Some(counted) = counted {
            if counted.last <= tally.last {
                let earlier = std::mem::replace(counted, tally);
                counted.add(&earlier);
            } else {
                counted.add(&tally);
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

/// Adds a tally to the metrics.
fn record((ClientId { key, .. }, tally): &(ClientId, Tally)) {
    let Some(instruments) = instruments() else { return };
    for (calls, is_get) in [(tally.gets, true), (tally.calls - tally.gets, false)] {
        if calls > 0 {
            instruments.key_calls(calls, key.clone(), tally.recipe.as_str(), is_get);
        }
    }
}

/// The username, if an account can have it.
fn known(username: &str) -> String {
    Username::parse(username).map(|username| username.as_str().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
