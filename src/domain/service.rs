//! The use cases. Both transports call them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use futures_util::future::join_all;

use super::{
    account::{self, User},
    call_context::CallContext,
    clock::Clock,
    error::Error,
    explain::{self, Explained},
    hash::SecretKeys,
    listing::{ChangeFilter, ChangeQuery, Listed, LoggedChange, UserQuery},
    page_token::TokenKey,
    readiness::NotReady,
    settings::Settings,
    store::Store,
    ttl_cache::TtlCache,
    update::{Actor, Change, Edit, Edits, Revert, Update, Updated},
    watch::{Position, SubscriptionFilter, Watch},
};
use crate::credentials::LegacyCredentials;

/// Page size for the changes that follow a change to revert.
const LATER_CHANGES: u64 = 200;
/// Maximum text bytes of a page of later changes.
const LATER_CHANGES_BYTES: usize = 1 << 20;

/// Attempts to revert a change while other changes arrive.
const MAX_UPDATE_ATTEMPTS: u32 = 5;

/// Maximum concurrent updates of a batch. The limit leaves room for other calls.
const MAX_CONCURRENT_UPDATES: usize = 32;

/// The log entries after a change.
struct Later {
    /// Whether a later entry touches the same fields.
    touched: bool,
    /// The user's latest logged version.
    version: i64,
}

/// The use cases.
pub struct Service {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    keys: SecretKeys,
    /// The settings that legacy calls check.
    settings: TtlCache<Settings>,
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

    /// Checks the credentials of a legacy call.
    ///
    /// # Errors
    /// In this order: [`Error::ApiDisabled`], [`Error::GetDisabled`], [`Error::IncorrectHash`]; and
    /// the errors of [`Store::settings`].
    pub async fn authenticate(
        &self,
        call: &CallContext,
        credentials: &LegacyCredentials,
    ) -> Result<(), Error> {
        let settings = self.cached_settings(call).await?;
        if !settings.allow_api || self.keys.is_empty() {
            return Err(Error::ApiDisabled);
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
    ) -> Result<(Settings, Explained), Error> {
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

    /// Reads a user.
    ///
    /// # Errors
    /// The errors of [`Store::read`].
    pub async fn read(
        &self,
        call: &CallContext,
        actor: &Actor,
        user_id: i64,
    ) -> Result<User, Error> {
        self.store.read(call, actor, user_id).await
    }

    /// The key of page and resume tokens.
    ///
    /// # Errors
    /// The errors of [`Store::token_key`].
    pub async fn token_key(&self, call: &CallContext) -> Result<TokenKey, Error> {
        self.store.token_key(call).await
    }

    /// Lists users.
    ///
    /// # Errors
    /// The errors of [`Store::list`].
    pub async fn list(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &UserQuery,
    ) -> Result<Listed<User>, Error> {
        self.store.list(call, actor, query).await
    }

    /// Lists entries of the change log.
    ///
    /// # Errors
    /// The errors of [`Store::list_changes`].
    pub async fn list_changes(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Listed<LoggedChange>, Error> {
        self.store.list_changes(call, actor, query).await
    }

    /// The filter for the users that an actor may watch.
    ///
    /// # Errors
    /// The errors of [`Store::visibility`].
    pub async fn watched(
        &self,
        call: &CallContext,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<SubscriptionFilter, Error> {
        Ok(SubscriptionFilter {
            user_id,
            visibility: self.store.visibility(call, actor, user_id).await?,
        })
    }

    /// Subscribes to the change log from a position; without a position, from now.
    ///
    /// # Errors
    /// The errors of [`Store::watch`].
    pub async fn watch(
        &self,
        call: &CallContext,
        from: Option<Position>,
        watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Box<dyn Watch>, Error> {
        self.store.watch(call, from, watched, caller).await
    }

    /// The current time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Reverts a logged change. Without an etag, its fields must be unchanged since.
    ///
    /// # Errors
    /// The errors of [`Store::list_changes`] and [`Store::apply`], [`Error::ChangeNotFound`], and
    /// [`Error::ChangeNotSupported`].
    pub async fn revert(
        &self,
        call: &CallContext,
        Revert { actor, allowed, origin, change_id, etag, validate_only }: Revert,
    ) -> Result<Updated, Error> {
        let after = Some(change_id.saturating_sub(1));
        let query = ChangeQuery {
            filter: ChangeFilter::default(),
            descending: false,
            after,
            limit: 1,
            max_bytes: LATER_CHANGES_BYTES,
        };
        let found = self.store.list_changes(call, &actor, &query).await?.items.pop();
        let found = found.filter(|found| found.id == change_id).ok_or(Error::ChangeNotFound)?;
        call.record.set_user(found.user_id);
        // A partial revert would split fields that belong together.
        if found.unknown_changes > 0 {
            return Err(Error::ChangeNotSupported);
        }
        let mut edits = Edits::default();
        for Change { field, old, .. } in &found.changes {
            edits.add(*field, Some(Edit::Set(old.clone())));
        }
        let new = |change: &Change| (change.field, change.new.clone());
        let update = |etag, unchanged, validate_only| Update {
            actor: actor.clone(),
            allowed,
            origin: origin.clone(),
            user_id: found.user_id,
            edits: edits.clone(),
            etag,
            request: None,
            unchanged,
            validate_only,
        };
        if etag.is_some() {
            return self.update(call, update(etag, Vec::new(), validate_only)).await;
        }
        let unchanged: Vec<_> = found.changes.iter().map(new).collect();
        let mut looked = None;
        for _ in 0..MAX_UPDATE_ATTEMPTS {
            let later = self.later(call, &actor, &found).await?;
            if later.touched {
                // Report the errors of the other checks first.
                self.update(call, update(None, unchanged, true)).await?;
                break;
            }
            // The etag detects a concurrent change. If the log ends at the same version again, the
            // log lacks the stored version: go without the etag.
            let guard = (looked != Some(later.version))
                .then(|| account::etag(found.user_id, later.version));
            looked = Some(later.version);
            match self.update(call, update(guard, unchanged.clone(), validate_only)).await {
                Err(Error::EtagMismatch) => {}
                updated => return updated,
            }
        }
        Err(Error::ChangedSince)
    }

    /// Reads the user's log entries after `change`.
    async fn later(
        &self,
        call: &CallContext,
        actor: &Actor,
        change: &LoggedChange,
    ) -> Result<Later, Error> {
        let filter = ChangeFilter { user_id: Some(change.user_id), ..ChangeFilter::default() };
        let (mut after, mut version) = (change.id, change.version);
        loop {
            let query = ChangeQuery {
                filter: filter.clone(),
                descending: false,
                after: Some(after),
                limit: LATER_CHANGES,
                max_bytes: LATER_CHANGES_BYTES,
            };
            let Listed { items: later, is_cut } =
                self.store.list_changes(call, actor, &query).await?;
            let mut fields = later.iter().flat_map(|later| &later.changes).map(|later| later.field);
            let touched = fields.any(|field| change.changes.iter().any(|own| own.field == field));
            if let Some(last) = later.last() {
                (after, version) = (last.id, last.version);
            }
            if touched || !is_cut && (later.len() as u64) < LATER_CHANGES {
                return Ok(Later { touched, version });
            }
        }
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

    /// Checks that an update could be stored.
    ///
    /// # Errors
    /// [`NotReady`] with the fault.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.store.ready().await
    }

    async fn cached_settings(&self, call: &CallContext) -> Result<Settings, Error> {
        self.settings.get(async { self.store.settings(call).await }).await
    }
}
