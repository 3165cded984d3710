//! The use cases: what takes more than one call of the store.

mod revert;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::SubsecRound;
use futures_util::future::join_all;

use super::{
    call_context::CallContext,
    clock::Clock,
    error::Error,
    explain::{self, Explained},
    hash::SecretKeys,
    settings::Settings,
    store::Store,
    ttl_cache::TtlCache,
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
    /// The settings that legacy calls check.
    settings: TtlCache<Arc<Settings>>,
}

impl Service {
    /// Creates the use cases. The `keys` verify legacy calls.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, keys: SecretKeys) -> Self {
        Self { store, clock, keys, settings: TtlCache::default() }
    }

    /// Sets the TTL of the settings cache. The default and the maximum are one second.
    #[must_use]
    pub fn with_settings_ttl(mut self, age: Duration) -> Self {
        self.settings = TtlCache::within(age);
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

    /// Checks the credentials of a legacy call by [`Self::cached_settings`].
    ///
    /// # Errors
    /// In this order: [`Error::AddressNotAllowed`], [`Error::ApiDisabled`], [`Error::Brownout`],
    /// [`Error::GetDisabled`], [`Error::IncorrectHash`].
    pub fn authenticate(
        &self,
        settings: &Settings,
        credentials: &LegacyCredentials,
    ) -> Result<(), Error> {
        if !settings.admits(&credentials.address) {
            return Err(Error::AddressNotAllowed);
        }
        if !settings.allow_api || self.keys.is_empty() {
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
        let recipes = &settings.hash_recipes;
        let right = self.keys.accept(
            recipes,
            &credentials.username,
            &credentials.user_id,
            &credentials.hash,
        );
        if right { Ok(()) } else { Err(Error::IncorrectHash) }
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
    ) -> Result<(Arc<Settings>, Explained), Error> {
        self.store.administer(call, actor).await?;
        let settings = self.cached_settings(call).await?;
        let (keys, credentials) = (self.keys.clone(), credentials.clone());
        // The search hashes thousands of user ids, which would block an async worker.
        let explain = move || {
            let LegacyCredentials { username, user_id, hash, .. } = &credentials;
            explain::hash(&keys, username, user_id, hash)
        };
        let explained = tokio::task::spawn_blocking(explain).await;
        Ok((settings, explained.map_err(|panicked| Error::Internal(panicked.into()))?))
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
        actor: &Actor,
        change: impl FnOnce(Settings) -> Settings + Send + 'static,
    ) -> Result<Settings, Error> {
        self.store.administer(call, actor).await?;
        let settings = self.store.update_settings(call, Box::new(change)).await?;
        self.settings.forget().await;
        Ok(settings)
    }

    /// The settings for a legacy call, at most as old as the TTL of their cache.
    ///
    /// # Errors
    /// The errors of [`Store::settings`].
    pub async fn cached_settings(&self, call: &CallContext) -> Result<Arc<Settings>, Error> {
        self.settings.get(async { self.store.settings(call).await.map(Arc::new) }).await
    }
}
