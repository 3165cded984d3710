//! What decides whether a legacy call is let in: settings, client keys and blocks, at most one second
//! old.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    call_context::CallContext,
    clock::Clock,
    error::Error,
    key_ring::KeyRing,
    legacy_block::{Blocks, LegacyBlockStore},
    legacy_key::{ClientKey, LegacyKey},
    legacy_key_store::LegacyKeyStore,
    master_key::MasterKeys,
    settings::Settings,
    store::Store,
    ttl_cache::TtlCache,
};

/// Settings, client keys and blocks of a moment.
#[derive(Debug, Default)]
pub struct LegacyAccess {
    /// The settings.
    pub settings: Settings,
    /// The active client keys.
    pub ring: Arc<KeyRing>,
    /// The stored blocks.
    pub blocks: Blocks,
}

/// The stored client keys, and the master keys that open them.
#[derive(Clone)]
pub struct ClientKeys {
    /// The stored keys.
    pub store: Arc<dyn LegacyKeyStore>,
    /// The master keys.
    pub masters: MasterKeys,
}

/// Reads [`LegacyAccess`], and caches it.
#[derive(Default)]
pub(super) struct LegacyAccessCache {
    cache: TtlCache<Arc<LegacyAccess>>,
    /// `None` without client keys.
    keys: Option<ClientKeys>,
    /// `None` without stored blocks.
    blocks: Option<Arc<dyn LegacyBlockStore>>,
    /// The last ring and what it was made of.
    last: Mutex<Option<Made>>,
}

struct Made {
    keys: Vec<LegacyKey>,
    masters: MasterKeysNow,
    ring: Arc<KeyRing>,
}

/// The master keys of a moment, compared by identity.
type MasterKeysNow = Arc<[secrecy::SecretString]>;

impl LegacyAccessCache {
    /// Sets the TTL: at most one second; zero disables the cache.
    pub(super) fn set_ttl(&mut self, age: Duration) {
        self.cache = TtlCache::within(age);
    }

    pub(super) fn set_keys(&mut self, keys: ClientKeys) {
        self.keys = Some(keys);
    }

    /// The client keys; `None` if the service has none.
    pub(super) fn keys(&self) -> Option<&ClientKeys> {
        self.keys.as_ref()
    }

    pub(super) fn set_blocks(&mut self, blocks: Arc<dyn LegacyBlockStore>) {
        self.blocks = Some(blocks);
    }

    /// The stored blocks; `None` if the service has none.
    pub(super) fn blocks(&self) -> Option<&dyn LegacyBlockStore> {
        self.blocks.as_deref()
    }

    pub(super) async fn get(
        &self,
        call: &CallContext,
        store: &dyn Store,
        clock: &dyn Clock,
    ) -> Result<Arc<LegacyAccess>, Error> {
        let read = async {
            let settings = store.settings(call).await?;
            let ring = match &self.keys {
                None => Arc::default(),
                Some(keys) => {
                    let stored = keys.store.active_legacy_keys(call, clock.now()).await?;
                    self.ring(stored, &keys.masters)
                }
            };
            let mut blocks = Vec::new();
            if let Some(store) = &self.blocks {
                blocks = store.active_legacy_blocks(call, clock.now()).await?;
            }
            Ok(Arc::new(LegacyAccess { settings, ring, blocks: Blocks::of(blocks) }))
        };
        self.cache.get(read).await
    }

    pub(super) async fn forget(&self) {
        self.cache.forget().await;
    }

    /// The ring of the stored keys: the last one, if nothing has changed.
    fn ring(&self, keys: Vec<LegacyKey>, masters: &MasterKeys) -> Arc<KeyRing> {
        let now = masters.0.get();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*last
            && made.keys == keys
            && Arc::ptr_eq(&made.masters, &now)
        {
            return Arc::clone(&made.ring);
        }
        // The secret of a key never changes. If it was sealed again with a new master key, this replica
        // may not have read the new master key yet.
        let opened = last.as_ref().filter(|made| Arc::ptr_eq(&made.masters, &now));
        let opened = opened.map_or(&[][..], |made| made.ring.keys());
        let open = |key: &LegacyKey| match ClientKey::open(key, masters) {
            Ok(opened) => Some(opened),
            Err(error) => {
                let known = opened.iter().find(|known| known.id == key.id);
                let known = known.map(|known| ClientKey::with_secret(key, known.secret.clone()));
                if known.is_none() {
                    tracing::warn!(
                        key = key.id,
                        name = key.name,
                        %error,
                        "a client key cannot be used"
                    );
                }
                known
            }
        };
        let ring = Arc::new(KeyRing::new(keys.iter().filter_map(open)));
        *last = Some(Made { keys, masters: now, ring: Arc::clone(&ring) });
        ring
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use secrecy::{ExposeSecret, SecretString};

    use super::*;
    use crate::{domain::legacy_key::Bindings, secrets::Secrets};

    #[test]
    fn a_secret_that_was_sealed_again_is_used_until_the_new_master_key_is_read() {
        let masters = |digits: &[&str]| {
            let keys = digits.iter().map(|digit| SecretString::from(digit.repeat(64)));
            MasterKeys(Secrets::new(keys))
        };
        let (old, new) = (masters(&["a"]), masters(&["b"]));
        let secret: SecretString = "a client's secret".into();
        let cache = LegacyAccessCache::default();
        let opened = |masters: &MasterKeys, sealed_by: &MasterKeys| {
            let stored = LegacyKey {
                id: "1".to_owned(),
                name: "crm".to_owned(),
                secret: sealed_by.seal("1", &secret).unwrap(),
                bindings: Bindings::default(),
                create_time: DateTime::UNIX_EPOCH,
                expire_time: None,
                revoke_time: None,
            };
            let ring = cache.ring(vec![stored], masters);
            let secrets = ring.keys().iter().map(|key| key.secret.expose_secret().to_owned());
            secrets.collect::<Vec<_>>()
        };
        assert_eq!(opened(&old, &old), ["a client's secret"]);
        assert_eq!(opened(&old, &new), ["a client's secret"]);
        // Once the file was read, only its keys count.
        assert!(opened(&masters(&["c"]), &new).is_empty());
        assert_eq!(opened(&new, &new), ["a client's secret"]);
    }
}
