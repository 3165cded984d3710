//! The administration of client keys.

use chrono::{DateTime, SubsecRound, Utc};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::SecretString;

use super::Service;
use crate::domain::{
    account::Username,
    administration::{AdminEntry, Administrator},
    call_context::CallContext,
    clock::Clock,
    error::Error,
    identity::Identity,
    legacy_access::ClientKeys,
    legacy_block::LegacyBlockStore,
    legacy_key::{Bindings, LegacyKey, MAX_ACTIVE_KEYS, MatchedKey, RANDOM_BYTES},
    listing::ROWS_PER_READ,
    update::Actor,
};

/// A new key for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The name of the client.
    pub name: String,
    /// What the key is bound to.
    pub bindings: Bindings,
    /// When the key expires; `None` for never.
    pub expire_time: Option<DateTime<Utc>>,
}

impl NewKey {
    fn check(&self, now: DateTime<Utc>) -> Result<(), Error> {
        let wrong = |field, problem: &str| {
            Err(Error::InvalidRequest { field, problem: problem.to_owned() })
        };
        if !Identity::is_name(&self.name) {
            return wrong("key.name", "must be 1 to 255 characters without control characters");
        }
        if [MatchedKey::Default, MatchedKey::Previous].iter().any(|key| key.name() == self.name) {
            return wrong("key.name", "is the name of a configured key");
        }
        let username = self.bindings.username.as_deref();
        if username.is_some_and(|username| Username::parse(username).is_none()) {
            return wrong("key.username", "must be a username");
        }
        if self.expire_time.is_some_and(|end| end <= now) {
            return wrong("key.expire_time", "must be in the future");
        }
        Ok(())
    }
}

impl ClientKeys {
    /// Every key, oldest first.
    ///
    /// # Errors
    /// The errors of the storage.
    pub async fn all(&self, call: &CallContext) -> Result<Vec<LegacyKey>, Error> {
        let (mut keys, mut after) = (Vec::<LegacyKey>::new(), None);
        loop {
            let page = self.store.legacy_keys(call, after, ROWS_PER_READ).await?;
            let is_last = (page.len() as u64) < ROWS_PER_READ;
            keys.extend(page);
            if is_last {
                return Ok(keys);
            }
            after = keys.last().map(|key| (key.create_time.timestamp_micros(), key.id.clone()));
        }
    }

    /// Creates a key. The secret is shown only now.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a name, [`Error::FailedPrecondition`] without a master key or with
    /// too many keys, and the errors of the storage.
    pub async fn create(
        &self,
        call: &CallContext,
        by: &Administrator,
        clock: &dyn Clock,
        new: NewKey,
    ) -> Result<(SecretString, LegacyKey), Error> {
        let now = clock.now().trunc_subsecs(6);
        new.check(now)?;
        if self.store.active_legacy_keys(call, now).await?.len() >= MAX_ACTIVE_KEYS {
            return Err(Error::FailedPrecondition(format!(
                "there are {MAX_ACTIVE_KEYS} active client keys already"
            )));
        }
        let mut random = [0; RANDOM_BYTES];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| Error::Internal("the system has no random numbers".into()))?;
        let NewKey { name, bindings, expire_time } = new;
        let made = LegacyKey::new(random, &self.masters, name, bindings, now, expire_time);
        let (secret, key) = made.map_err(|error| Error::FailedPrecondition(error.to_string()))?;
        self.store.create_legacy_key(call, by, key.clone()).await?;
        Ok((secret, key))
    }

    /// Creates a key with the name and the bindings of the newest active key with this id or name, which
    /// stays valid until it is revoked.
    ///
    /// # Errors
    /// [`Error::KeyNotFound`], and the errors of [`Self::create`].
    pub async fn rotate(
        &self,
        call: &CallContext,
        by: &Administrator,
        clock: &dyn Clock,
        id_or_name: &str,
    ) -> Result<(SecretString, LegacyKey), Error> {
        let active = self.store.active_legacy_keys(call, clock.now()).await?;
        let by_id = active.iter().rfind(|key| key.id == id_or_name);
        let found = by_id.or_else(|| active.iter().rfind(|key| key.name == id_or_name));
        let LegacyKey { name, bindings, expire_time, .. } =
            found.ok_or(Error::KeyNotFound)?.clone();
        self.create(call, by, clock, NewKey { name, bindings, expire_time }).await
    }

    /// Seals every secret with the current master key. Returns the number of secrets that another
    /// master key had sealed.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] if a secret cannot be opened; then nothing is changed.
    pub async fn reseal(
        &self,
        call: &CallContext,
        by: &Administrator,
        clock: &dyn Clock,
    ) -> Result<usize, Error> {
        let mut sealed = Vec::new();
        let keys = self.all(call).await?;
        let live = keys.iter().filter(|key| key.revoke_time.is_none());
        for key in live.filter(|key| !self.masters.is_current(&key.secret)) {
            let again = self.masters.open(&key.id, &key.secret);
            let again = again.and_then(|secret| self.masters.seal(&key.id, &secret));
            let again = again.map_err(|error| {
                Error::FailedPrecondition(format!("the key {} of {:?}: {error}", key.id, key.name))
            })?;
            sealed.push((key.id.clone(), again));
        }
        let count = sealed.len();
        if count > 0 {
            self.store.reseal_legacy_keys(call, (by, clock.now()), sealed).await?;
        }
        Ok(count)
    }
}

impl Service {
    /// The client keys, for an administrator.
    ///
    /// # Errors
    /// The errors of [`crate::domain::store::Store::administer`].
    pub async fn client_keys(
        &self,
        call: &CallContext,
        actor: &Actor,
    ) -> Result<&ClientKeys, Error> {
        self.store.administer(call, actor).await?;
        let none = || Error::Internal("the service has no client keys".into());
        self.access.keys().ok_or_else(none)
    }

    /// The stored blocks, for an administrator.
    ///
    /// # Errors
    /// The errors of [`crate::domain::store::Store::administer`].
    pub async fn blocks(
        &self,
        call: &CallContext,
        actor: &Actor,
    ) -> Result<&dyn LegacyBlockStore, Error> {
        self.store.administer(call, actor).await?;
        let none = || Error::Internal("the service has no blocks".into());
        self.access.blocks().ok_or_else(none)
    }

    /// Stores the new automatic blocks.
    ///
    /// # Errors
    /// The errors of [`LegacyBlockStore::store_automatic_blocks`].
    pub async fn store_blocks(&self) -> Result<(), Error> {
        let Some(store) = self.access.blocks() else { return Ok(()) };
        let stored = self.guard.store(store, self.clock.now()).await?;
        if !stored.is_empty() {
            self.access_changed().await;
            self.guard.hand_over(stored, self.clock.now());
        }
        Ok(())
    }

    /// Applies changed client keys and blocks on this replica at once.
    pub async fn access_changed(&self) {
        self.access.forget().await;
    }

    /// Entries of the administration log, newest first: at most `limit`, with ids below `before`.
    ///
    /// # Errors
    /// The errors of [`crate::domain::store::Store::administer`] and of the storage.
    pub async fn administration_log(
        &self,
        call: &CallContext,
        actor: &Actor,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AdminEntry>, Error> {
        self.store.administer(call, actor).await?;
        self.store.administration_log(call, before, limit).await
    }
}
