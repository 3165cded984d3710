//! The port to the stored data.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    account::User,
    administration::{AdminChange, AdminEntry, Administrator},
    call_context::CallContext,
    error::Error,
    legacy_client_store::LegacyClientStore,
    listing::{ChangeQuery, Listed, ListedUser, LoggedChange, UserQuery},
    page_token::TokenKey,
    readiness::NotReady,
    rules::Visibility,
    settings::Settings,
    update::{Actor, Update, Updated},
    watch::{Position, SubscriptionFilter, Watch, WatchStart},
};

/// The stored data. Each change has its own transaction, or several changes share a transaction.
#[async_trait]
pub trait Store: LegacyClientStore + Send + Sync {
    /// The maximum concurrent calls. Further calls fail with [`Error::Overloaded`].
    fn room(&self) -> usize;

    /// Applies a change. On return, the change and its log entry are durable, or nothing is stored.
    /// A started change completes even if the caller goes away.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if too many calls are in flight, the errors of
    /// [`super::rules::apply`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn apply(
        &self,
        call: &CallContext,
        update: Update,
        now: DateTime<Utc>,
    ) -> Result<Updated, Error>;

    /// Applies changes in order, in one transaction, all or none.
    ///
    /// # Errors
    /// [`Error::InBatch`] with the first refused update, and the errors of [`Store::apply`] that
    /// concern the whole batch.
    async fn apply_all(
        &self,
        call: &CallContext,
        updates: Vec<Update>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Updated>, Error>;

    /// Reads a user on behalf of an actor.
    ///
    /// # Errors
    /// The errors of [`super::rules::read`], [`Error::Unavailable`] or [`Error::Internal`].
    async fn read(&self, call: &CallContext, actor: &Actor, user_id: i64) -> Result<User, Error>;

    /// A page of the users that an actor may list.
    ///
    /// # Errors
    /// The errors of [`super::rules::visibility`], [`Error::Unavailable`] or [`Error::Internal`].
    async fn list(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &UserQuery,
    ) -> Result<Listed<ListedUser>, Error>;

    /// A page of the change log, limited to users that an actor may list.
    ///
    /// # Errors
    /// The errors of [`super::rules::visibility`], [`Error::Unavailable`] or [`Error::Internal`].
    async fn list_changes(
        &self,
        call: &CallContext,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Listed<LoggedChange>, Error>;

    /// The users that an actor may list. With `user_id`, checks that the actor may read that user.
    /// Needs no [`Store::room`].
    ///
    /// # Errors
    /// The errors of [`super::rules::visibility`], with `user_id` also of [`super::rules::read`],
    /// and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn visibility(
        &self,
        call: &CallContext,
        actor: &Actor,
        user_id: Option<i64>,
    ) -> Result<Visibility, Error>;

    /// Subscribes to the change log. Each caller has a maximum of subscriptions.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the log does not have the start,
    /// [`Error::Overloaded`] if the caller or all callers have too many subscriptions, and
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn watch(
        &self,
        call: &CallContext,
        start: WatchStart,
        watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Box<dyn Watch>, Error>;

    /// A position. A later read sees every entry up to it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn position(&self, call: &CallContext) -> Result<Position, Error>;

    /// The key of page and resume tokens, at most one second old.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn token_key(&self, call: &CallContext) -> Result<TokenKey, Error>;

    /// Checks that an actor may read and change settings.
    ///
    /// # Errors
    /// The errors of [`super::rules::administer`], [`Error::Unavailable`] or [`Error::Internal`].
    async fn administer(&self, call: &CallContext, actor: &Actor) -> Result<(), Error>;

    /// The stored settings.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn settings(&self, call: &CallContext) -> Result<Settings, Error>;

    /// Stores settings and their log entries in one transaction. `change` maps the stored settings to
    /// the new settings.
    ///
    /// # Errors
    /// The errors of [`Settings::check`], [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn update_settings(
        &self,
        call: &CallContext,
        by: (&Administrator, DateTime<Utc>),
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error>;

    /// Adds an entry to the administration log that belongs to no stored change.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn log_administration(
        &self,
        call: &CallContext,
        by: (&Administrator, DateTime<Utc>),
        change: AdminChange,
    ) -> Result<(), Error>;

    /// Entries of the administration log, newest first: at most `limit`, with ids below `before`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn administration_log(
        &self,
        call: &CallContext,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AdminEntry>, Error>;

    /// Checks that an update could be stored.
    ///
    /// # Errors
    /// [`NotReady`] with the fault.
    async fn ready(&self) -> Result<(), NotReady>;
}
