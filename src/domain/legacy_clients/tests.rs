//! Unit tests of the counts.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::domain::error::Error;
use crate::{
    domain::{
        call_context::CallContext,
        hash::Recipe,
        legacy_client_store::{ClientQuery, LegacyClient},
        legacy_key::MatchedKey,
    },
    fields::Field,
};
use async_trait::async_trait;

fn credentials(username: &str, address: &str) -> LegacyCredentials {
    let [user_id, hash] = [const { String::new() }; 2];
    let (username, address) = (username.to_owned(), address.to_owned());
    LegacyCredentials { username, user_id, hash, method: "GET".to_owned(), address }
}

fn call(clients: &LegacyClients, username: &str, address: &str, seconds: i64) {
    let matched = Matched { recipe: Recipe::UsernameUserId, key: MatchedKey::Default };
    let now = DateTime::from_timestamp(seconds, 0).unwrap();
    let fields = [Field::city].into_iter().collect();
    let credentials = credentials(username, address);
    let counting = clients.begin(&credentials, &matched, fields, now);
    if seconds == 1 {
        counting.refused(&Error::NotAuthorized);
    } else {
        counting.stored();
    }
}

/// A store that fails while `down`.
#[derive(Default)]
struct Kept {
    down: AtomicBool,
    clients: Mutex<Vec<(ClientId, Tally)>>,
    failed: Mutex<Vec<FailedHashes>>,
}

#[async_trait]
impl LegacyClientStore for Kept {
    async fn known_clients(
        &self,
        _: Option<DateTime<Utc>>,
    ) -> Result<Vec<(String, String)>, Error> {
        Err(Error::Overloaded)
    }

    async fn add_legacy_clients(
        &self,
        clients: &[(ClientId, Tally)],
        failed: &[FailedHashes],
    ) -> Result<Vec<ClientId>, Error> {
        if self.down.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("down".into()));
        }
        self.clients.lock().unwrap().extend_from_slice(clients);
        self.failed.lock().unwrap().extend_from_slice(failed);
        Ok(Vec::new())
    }

    async fn legacy_clients(
        &self,
        _call: &CallContext,
        _query: &ClientQuery,
    ) -> Result<Vec<LegacyClient>, Error> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn calls_are_counted_once_also_while_the_storage_is_down() {
    let (clients, store) = (LegacyClients::default(), Kept::default());
    store.down.store(true, Ordering::Relaxed);
    call(&clients, "admin", "192.0.2.1", 1);
    clients.failed(&credentials("admin", "192.0.2.1"));
    clients.write(&store).await;
    call(&clients, "admin", "192.0.2.1", 3);
    call(&clients, "admin", "::ffff:192.0.2.1", 2);
    clients.failed(&credentials("admin", "192.0.2.1"));
    store.down.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        clients.write(&store).await;
    }
    let stored = store.clients.lock().unwrap();
    assert_eq!(stored.len(), 1);
    let (id, tally) = &stored[0];
    assert_eq!((&*id.key, &*id.network), ("default", "192.0.2.1"));
    assert_eq!((tally.calls, tally.refused, tally.gets), (3, 1, 3));
    assert_eq!((tally.first.timestamp(), tally.last.timestamp()), (1, 3));
    let failed: Vec<_> = store.failed.lock().unwrap().iter().map(|one| one.count).collect();
    assert_eq!(failed, [2]);
}

#[tokio::test]
async fn memory_is_bounded_and_batches_are_small() {
    let (clients, store) = (LegacyClients::default(), Kept::default());
    for number in 0..MAX_CLIENTS + 10 {
        let address = format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff);
        call(&clients, "admin", &address, 1);
        clients.failed(&credentials("admin", &address));
    }
    assert_eq!(clients.counts().uncounted, 10);
    clients.write(&store).await;
    assert_eq!(store.clients.lock().unwrap().len(), MAX_CLIENTS);
    assert_eq!(store.failed.lock().unwrap().len(), MAX_FAILED);
}

#[test]
fn an_ipv6_client_is_its_network() {
    for (address, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
    ] {
        assert_eq!(client_network(address), expected);
    }
}
