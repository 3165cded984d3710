//! The port to the stored data.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    account::User,
    error::Error,
    listing::{ChangeQuery, Listed, LoggedChange, UserQuery},
    page_token::TokenKey,
    readiness::NotReady,
    rules::Visibility,
    settings::Settings,
    update::{Actor, Update, Updated},
    watch::{Position, SubscriptionFilter, Watch},
};

/// The stored data. A change is applied in a transaction of its own, or one is shared among several.
#[async_trait]
pub trait Store: Send + Sync {
    /// How many calls it takes at once; more are refused as [`Error::Overloaded`].
    fn room(&self) -> usize;

    /// Applies a change: all of it and its entry in the change log are durable when this returns, or nothing is. Once
    /// begun it is finished, even if the caller goes away.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where too many are under way, those of [`super::rules::apply`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn apply(&self, update: Update, now: DateTime<Utc>) -> Result<Updated, Error>;

    /// Applies changes, in their order, all in one transaction or none.
    ///
    /// # Errors
    /// [`Error::InBatch`] with the first one that is refused, and those of [`Store::apply`] that concern all.
    async fn apply_all(
        &self,
        updates: Vec<Update>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Updated>, Error>;

    /// Reads a user on behalf of an actor.
    ///
    /// # Errors
    /// Those of [`super::rules::read`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn read(&self, actor: &Actor, user_id: i64) -> Result<User, Error>;

    /// A page of the users that an actor may list.
    ///
    /// # Errors
    /// Those of [`super::rules::visibility`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn list(&self, actor: &Actor, query: &UserQuery) -> Result<Listed<User>, Error>;

    /// A page of the change log of the users that an actor may list.
    ///
    /// # Errors
    /// Those of [`super::rules::visibility`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn list_changes(
        &self,
        actor: &Actor,
        query: &ChangeQuery,
    ) -> Result<Listed<LoggedChange>, Error>;

    /// Which users an actor may list; and whether it may read one user, if that is given. It needs no room among the calls.
    ///
    /// # Errors
    /// Those of [`super::rules::visibility`], with a user those of [`super::rules::read`], and [`Error::Unavailable`] or
    /// [`Error::Internal`] of the storage.
    async fn visibility(&self, actor: &Actor, user_id: Option<i64>) -> Result<Visibility, Error>;

    /// Watches the change log from a position on, or from now on. Each caller has a share of the
    /// places.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the caller or all callers have too many subscriptions, and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn watch(
        &self,
        from: Option<Position>,
        watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Box<dyn Watch>, Error>;

    /// The key of page and resume tokens. It is read once; later calls need no round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn token_key(&self) -> Result<TokenKey, Error>;

    /// Checks that an actor may read and change settings.
    ///
    /// # Errors
    /// Those of [`super::rules::administer`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn administer(&self, actor: &Actor) -> Result<(), Error>;

    /// The stored settings.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn settings(&self) -> Result<Settings, Error>;

    /// Stores settings: `change` gets the stored ones and answers the new ones, in one transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn update_settings(
        &self,
        change: Box<dyn FnOnce(Settings) -> Settings + Send>,
    ) -> Result<Settings, Error>;

    /// Proves that an update could be stored.
    ///
    /// # Errors
    /// What keeps the storage from that.
    async fn ready(&self) -> Result<(), NotReady>;
}
