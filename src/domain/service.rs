//! The use cases, as both transports call them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use futures_util::future::join_all;

use super::{
    account::{self, User},
    acting::Acting,
    clock::Clock,
    error::Error,
    explain::{self, Explained},
    hash::SecretKeys,
    identity::FieldSet,
    listing::{ChangeFilter, ChangeQuery, Listed, LoggedChange, UserQuery},
    page_token::TokenKey,
    readiness::NotReady,
    settings::Settings,
    store::Store,
    ttl_cache::TtlCache,
    update::{Actor, Change, Edit, Edits, Origin, Update, Updated},
    watch::{Position, SubscriptionFilter, Watch},
};
use crate::credentials::LegacyCredentials;

/// How many later changes are read at once before one is reverted.
const LATER_CHANGES: u64 = 200;
/// The bytes of texts of later changes that are read at once.
const LATER_CHANGES_BYTES: usize = 1 << 20;

/// How often a change is looked at that is to be reverted, while others come.
const ATTEMPTS: u32 = 5;

/// How many updates of a batch are under way at once: others have room beside them.
const AT_ONCE: usize = 32;

/// What came after a change.
struct Later {
    /// Whether it touched the same fields.
    touched: bool,
    /// The user's version by then.
    version: i64,
}

/// The use cases.
pub struct Service {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    keys: SecretKeys,
    /// How long the change log is kept; none is for ever.
    settings: TtlCache<Settings>,
}

impl Service {
    /// Use cases on a store, with the keys of legacy calls.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, keys: SecretKeys) -> Self {
        Self { store, clock, keys, settings: TtlCache::default() }
    }

    /// Tells how long legacy calls believe the settings, a second at most; without it a second.
    #[must_use]
    pub fn with_settings_ttl(mut self, age: Duration) -> Self {
        self.settings = TtlCache::within(age);
        self
    }

    /// Changes a user.
    ///
    /// # Errors
    /// Those of [`Store::apply`].
    pub async fn update(&self, update: Update) -> Result<Updated, Error> {
        self.store.apply(update, self.clock.now().trunc_subsecs(6)).await
    }

    /// Changes users, in the order of the updates: all or none.
    ///
    /// # Errors
    /// Those of [`Store::apply_all`].
    pub async fn update_all(&self, updates: Vec<Update>) -> Result<Vec<Updated>, Error> {
        self.store.apply_all(updates, self.clock.now().trunc_subsecs(6)).await
    }

    /// Changes users, each on its own: those of one user in the order of the updates. `each` gets the
    /// outcomes in their order.
    pub async fn update_each(
        &self,
        updates: Vec<Update>,
        each: impl FnMut(Result<Updated, Error>) + Send,
    ) {
        // Others find room, too.
        let at_once = AT_ONCE.min(self.store.room() / 2).max(1);
        let mut each = each;
        let mut updates = updates.into_iter().peekable();
        while updates.peek().is_some() {
            let (mut users, mut portion) = (BTreeSet::new(), Vec::new());
            while let Some(update) =
                updates.next_if(|update| portion.len() < at_once && users.insert(update.user_id))
            {
                portion.push(self.update(update));
            }
            join_all(portion).await.into_iter().for_each(&mut each);
        }
    }

    /// Checks the credentials of a legacy call.
    ///
    /// # Errors
    /// In this order: [`Error::ApiDisabled`], [`Error::GetDisabled`], [`Error::IncorrectHash`]; and those of
    /// [`Store::settings`].
    pub async fn authenticate(&self, call: &LegacyCredentials) -> Result<(), Error> {
        let settings = self.cached_settings().await?;
        if !settings.allow_api || self.keys.is_empty() {
            return Err(Error::ApiDisabled);
        }
        if call.is_get() && !settings.allow_get_api {
            return Err(Error::GetDisabled);
        }
        let recipes = &settings.hash_recipes;
        let right = self.keys.accept(recipes, &call.username, &call.user_id, &call.hash);
        if right { Ok(()) } else { Err(Error::IncorrectHash) }
    }

    /// Explains the hash of a legacy call, beside the settings with which it is checked.
    ///
    /// # Errors
    /// Those of [`Store::administer`] and [`Store::settings`].
    pub async fn explain(
        &self,
        actor: &Actor,
        call: &LegacyCredentials,
    ) -> Result<(Settings, Explained), Error> {
        self.store.administer(actor).await?;
        let settings = self.cached_settings().await?;
        let (keys, call) = (self.keys.clone(), call.clone());
        // Many hashes are tried.
        let explain = move || explain::hash(&keys, &call.username, &call.user_id, &call.hash);
        let explained = tokio::task::spawn_blocking(explain).await;
        Ok((settings, explained.map_err(|panicked| Error::Internal(panicked.into()))?))
    }

    /// Reads a user.
    ///
    /// # Errors
    /// Those of [`Store::read`].
    pub async fn read(&self, actor: &Actor, user_id: i64) -> Result<User, Error> {
        self.store.read(actor, user_id).await
    }

    /// The key of page and resume tokens.
    ///
    /// # Errors
    /// Those of [`Store::token_key`].
    pub async fn token_key(&self) -> Result<TokenKey, Error> {
        self.store.token_key().await
    }

    /// Lists users.
    ///
    /// # Errors
    /// Those of [`Store::list`].
    pub async fn list(&self, actor: &Actor, query: &UserQuery) -> Result<Listed<User>, Error> {
        self.store.list(actor, query).await
    }

    /// Lists entries of the change log.
    ///
    /// # Errors
    /// Those of [`Store::list_changes`].
    pub async fn list_changes(
        &self,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Listed<LoggedChange>, Error> {
        self.store.list_changes(actor, query).await
    }

    /// Which users an actor may watch.
    ///
    /// # Errors
    /// Those of [`Store::visibility`].
    pub async fn watched(
        &self,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<SubscriptionFilter, Error> {
        Ok(SubscriptionFilter { user_id, visibility: self.store.visibility(actor, user_id).await? })
    }

    /// Watches the change log from a position on, or from now on.
    ///
    /// # Errors
    /// Those of [`Store::watch`].
    pub async fn watch(
        &self,
        from: Option<Position>,
        watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Box<dyn Watch>, Error> {
        self.store.watch(from, watched, caller).await
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Undoes a logged change; without an etag only where its fields hold what it gave them.
    ///
    /// # Errors
    /// Those of [`Store::list_changes`] and [`Store::apply`], [`Error::ChangeNotFound`], and
    /// [`Error::ChangeNotSupported`].
    pub async fn revert(
        &self,
        actor: Actor,
        allowed: Option<FieldSet>,
        origin: Origin,
        change_id: i64,
        etag: Option<String>,
        validate_only: bool,
    ) -> Result<Updated, Error> {
        let after = Some(change_id.saturating_sub(1));
        let query = ChangeQuery {
            filter: ChangeFilter::default(),
            descending: false,
            after,
            limit: 1,
            max_bytes: LATER_CHANGES_BYTES,
        };
        let found = self.store.list_changes(&actor, &query).await?.items.pop();
        let found = found.filter(|found| found.id == change_id).ok_or(Error::ChangeNotFound)?;
        // Half a revert is none: the fields of a change belong together.
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
            acting: Acting::current(),
        };
        if etag.is_some() {
            return self.update(update(etag, Vec::new(), validate_only)).await;
        }
        let unchanged: Vec<_> = found.changes.iter().map(new).collect();
        let mut looked = None;
        for _ in 0..ATTEMPTS {
            let later = self.later(&actor, &found).await?;
            if later.touched {
                // The other checks come first.
                self.update(update(None, unchanged, true)).await?;
                break;
            }
            // A change that comes meanwhile is looked at, too. The version may be one that the log does not tell of.
            let guard = (looked != Some(later.version))
                .then(|| account::etag(found.user_id, later.version));
            looked = Some(later.version);
            match self.update(update(guard, unchanged.clone(), validate_only)).await {
                Err(Error::EtagMismatch) => {}
                updated => return updated,
            }
        }
        Err(Error::ChangedSince)
    }

    /// What the log tells of changes after one.
    async fn later(&self, actor: &Actor, change: &LoggedChange) -> Result<Later, Error> {
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
            let Listed { items: later, is_cut } = self.store.list_changes(actor, &query).await?;
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
    /// Those of [`Store::administer`] and [`Store::settings`].
    pub async fn settings(&self, actor: &Actor) -> Result<Settings, Error> {
        self.store.administer(actor).await?;
        self.store.settings().await
    }

    /// Changes the settings; on this replica they are effective at once.
    ///
    /// # Errors
    /// Those of [`Store::administer`] and [`Store::update_settings`].
    pub async fn update_settings(
        &self,
        actor: &Actor,
        change: impl FnOnce(Settings) -> Settings + Send + 'static,
    ) -> Result<Settings, Error> {
        self.store.administer(actor).await?;
        let settings = self.store.update_settings(Box::new(change)).await?;
        self.settings.forget().await;
        Ok(settings)
    }

    /// Proves that an update could be stored.
    ///
    /// # Errors
    /// What keeps the storage from that.
    pub async fn ready(&self) -> Result<(), NotReady> {
        self.store.ready().await
    }

    async fn cached_settings(&self) -> Result<Settings, Error> {
        self.settings.get(async { self.store.settings().await }).await
    }
}
