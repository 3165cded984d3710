//! The use cases: what takes more than one call of the store.

pub mod client_keys;
mod revert;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::SubsecRound;
use futures_util::future::join_all;

use super::{
    administration::Administrator,
    call_context::CallContext,
    clock::Clock,
    error::Error,
    explain::{self, Explained},
    hash::SecretKeys,
    hash_guard::{HashGuard, Standing},
    key_ring::Matched,
    legacy_access::{ClientKeys, LegacyAccess, LegacyAccessCache},
    legacy_block::LegacyBlockStore,
    legacy_clients::{Counting, LegacyClients},
    scope::FieldSet,
    settings::Settings,
    store::Store,
    update::{Actor, Update, Updated},
};
use crate::credentials::LegacyCredentials;

/// Maximum concurrent updates of a batch. The limit leaves room for other calls.
const MAX_CONCURRENT_UPDATES: usize = 32;

/// The use cases.
pub struct Service {
    /// The stored data. Reads go to it directly.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    keys: SecretKeys,
    access: LegacyAccessCache,
    /// Counts the legacy calls.
    pub clients: Arc<LegacyClients>,
    /// Limits wrong hashes.
    pub guard: Arc<HashGuard>,
}

impl Service {
    /// Creates the use cases. The `keys` verify legacy calls.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, keys: SecretKeys) -> Self {
        let access = LegacyAccessCache::default();
        Self { store, clock, keys, access, clients: Arc::default(), guard: Arc::default() }
    }

    /// Sets the TTL of settings and client keys. The default and the maximum are one second.
    #[must_use]
    pub fn with_settings_ttl(mut self, age: Duration) -> Self {
        self.access.set_ttl(age);
        self
    }

    /// Accepts client keys, too.
    #[must_use]
    pub fn with_client_keys(mut self, keys: ClientKeys) -> Self {
        self.access.set_keys(keys);
        self
    }

    /// Honours stored blocks.
    #[must_use]
    pub fn with_blocks(mut self, blocks: Arc<dyn LegacyBlockStore>) -> Self {
        self.access.set_blocks(blocks);
        self
    }

    /// Changes a user.
    ///
    /// # Errors
    /// The errors of [`Store::apply`].
    pub async fn update(&self, call: &CallContext, update: Update) -> Result<Updated, Error> {
        self.store.apply(call, update, self.clock.now().trunc_subsecs(6)).await
    }

    /// Changes users in the order of the updates, all or none.
    ///
    /// # Errors
    /// The errors of [`Store::apply_all`].
    pub async fn update_all(
        &self,
        call: &CallContext,
        updates: Vec<Update>,
    ) -> Result<Vec<Updated>, Error> {
        self.store.apply_all(call, updates, self.clock.now().trunc_subsecs(6)).await
    }

    /// Applies each update separately, in order for each user. `each` receives the outcomes in the
    /// order of the updates.
    pub async fn update_each(
        &self,
        call: &CallContext,
        updates: Vec<Update>,
        each: impl FnMut(Result<Updated, Error>) + Send,
    ) {
        // Leave room for other calls.
        let at_once = MAX_CONCURRENT_UPDATES.min(self.store.room() / 2).max(1);
        let mut each = each;
        let mut updates = updates.into_iter().peekable();
        while updates.peek().is_some() {
            let (mut users, mut portion) = (BTreeSet::new(), Vec::new());
            while let Some(update) =
                updates.next_if(|update| portion.len() < at_once && users.insert(update.user_id))
            {
                portion.push(self.update(call, update));
            }
            join_all(portion).await.into_iter().for_each(&mut each);
        }
    }

    /// Checks the credentials of a legacy call by [`Self::access`], and counts a wrong hash. Returns the key
    /// and the recipe of its hash.
    ///
    /// # Errors
    /// The errors of [`Self::check_credentials`].
    pub fn authenticate(
        &self,
        access: &LegacyAccess,
        credentials: &LegacyCredentials,
    ) -> Result<Matched, Error> {
        let standing = self.standing(access, credentials)?;
        let checked = self.check_hash(access, credentials, standing.as_ref());
        if checked.is_err() {
            let (limits, now) = (&access.settings.hash_limits, self.clock.now());
            self.guard.failed(limits, credentials, standing.as_ref(), now)?;
        }
        checked
    }

    /// Checks the credentials of a legacy call like [`Self::authenticate`], and counts nothing.
    ///
    /// # Errors
    /// In this order: [`Error::AddressNotAllowed`], [`Error::ApiDisabled`], [`Error::Brownout`],
    /// [`Error::GetDisabled`], [`Error::AddressBlocked`], [`Error::IncorrectHash`] or
    /// [`Error::UsernameBlocked`]. The caller checks the bindings of the key.
    pub fn check_credentials(
        &self,
        access: &LegacyAccess,
        credentials: &LegacyCredentials,
    ) -> Result<Matched, Error> {
        let standing = self.standing(access, credentials)?;
        self.check_hash(access, credentials, standing.as_ref())
    }

    /// Everything before the check of the hash.
    fn standing(
        &self,
        access: &LegacyAccess,
        credentials: &LegacyCredentials,
    ) -> Result<Option<Standing<'_>>, Error> {
        let LegacyAccess { settings, ring, blocks } = access;
        if !settings.allowed_networks.admit(&credentials.address) {
            return Err(Error::AddressNotAllowed);
        }
        if !settings.allow_api || (self.keys.0.get().is_empty() && ring.is_empty()) {
            return Err(Error::ApiDisabled);
        }
        let brownouts = &settings.retirement.brownouts;
        if !brownouts.is_empty()
            && let Some(window) = brownouts.at(self.clock.now())
        {
            return Err(Error::Brownout(window));
        }
        if credentials.is_get() && !settings.allow_get_api {
            return Err(Error::GetDisabled);
        }
        self.guard.standing(blocks, &self.clients.known, credentials, self.clock.now())
    }

    fn check_hash(
        &self,
        access: &LegacyAccess,
        credentials: &LegacyCredentials,
        standing: Option<&Standing<'_>>,
    ) -> Result<Matched, Error> {
        let LegacyAccess { settings, ring, .. } = access;
        let (configured, now) = (self.keys.0.get(), self.clock.now());
        // With hints, the response time would reveal that a refused hash is right.
        let is_hinted = standing.is_none_or(Standing::is_free);
        let matched = ring.find(&configured, &settings.hash_recipes, credentials, (now, is_hinted));
        match standing {
            None => matched.ok_or(Error::IncorrectHash),
            Some(standing) => standing.admit(matched),
        }
    }

    /// Explains the hash of a legacy call, and returns the settings that check it.
    ///
    /// # Errors
    /// The errors of [`Store::administer`] and [`Store::settings`].
    pub async fn explain(
        &self,
        call: &CallContext,
        actor: &Actor,
        credentials: &LegacyCredentials,
    ) -> Result<(Arc<LegacyAccess>, Explained), Error> {
        self.store.administer(call, actor).await?;
        let access = self.access(call).await?;
        let (keys, credentials) = (self.keys.clone(), credentials.clone());
        let ring = Arc::clone(&access.ring);
        // The search hashes thousands of user ids, which would block an async worker.
        let explain = move || explain::hash(&keys, &ring, &credentials);
        let explained = tokio::task::spawn_blocking(explain).await;
        Ok((access, explained.map_err(|panicked| Error::Internal(panicked.into()))?))
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// The errors of [`Store::administer`] and [`Store::settings`].
    pub async fn settings(&self, call: &CallContext, actor: &Actor) -> Result<Settings, Error> {
        self.store.administer(call, actor).await?;
        self.store.settings(call).await
    }

    /// Changes the settings. This replica applies them at once.
    ///
    /// # Errors
    /// The errors of [`Store::administer`] and [`Store::update_settings`].
    pub async fn update_settings(
        &self,
        call: &CallContext,
        (actor, by): (&Actor, &Administrator),
        change: impl FnOnce(Settings) -> Settings + Send + 'static,
    ) -> Result<Settings, Error> {
        self.store.administer(call, actor).await?;
        let by = (by, self.clock.now());
        let settings = self.store.update_settings(call, by, Box::new(change)).await?;
        self.access.forget().await;
        Ok(settings)
    }

    /// Returns a guard for a legacy call with a right hash. The guard counts the call when it is
    /// dropped.
    pub fn count<'a>(
        &'a self,
        credentials: &'a LegacyCredentials,
        matched: &'a Matched,
        fields: FieldSet,
    ) -> Counting<'a> {
        self.clients.begin(credentials, matched, fields, self.clock.now())
    }

    /// What decides whether a legacy call is let in, at most as old as the TTL.
    ///
    /// # Errors
    /// The errors of [`Store::settings`].
    pub async fn access(&self, call: &CallContext) -> Result<Arc<LegacyAccess>, Error> {
        self.access.get(call, &*self.store, &*self.clock).await
    }
}
