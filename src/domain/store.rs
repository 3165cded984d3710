//! The ports through which the rules reach stored data.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    account::{ActingAccount, User, Username},
    error::{Cause, Error},
    settings::Settings,
    update::{Actor, Change, Door, Update, Updated},
};
use crate::fields::Reference;

/// The stored data. An engine applies a change in a transaction of its own or shares one among several.
#[async_trait]
pub trait Store: Send + Sync {
    /// Applies a change: all of it and its entry in the change log are durable when this returns, or nothing is.
    ///
    /// # Errors
    /// Those of [`super::rules::apply`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn apply(&self, update: &Update, now: DateTime<Utc>) -> Result<Updated, Error>;

    /// Reads a user on behalf of an actor.
    ///
    /// # Errors
    /// Those of [`super::rules::read`], and [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn read(&self, actor: &Actor, user_id: i64) -> Result<User, Error>;

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

    /// Whether the storage answers.
    ///
    /// # Errors
    /// What it said instead.
    async fn ready(&self) -> Result<(), Cause>;
}

/// What the rules ask of one transaction.
#[async_trait]
pub trait Transaction: Send {
    /// The account of a name, with what its group may do.
    async fn acting_account(&mut self, name: &Username) -> Result<Option<ActingAccount>, Error>;

    /// The account of an id. To be changed, its row is locked until the transaction ends.
    async fn user(&mut self, id: i64, purpose: Purpose) -> Result<Option<User>, Error>;

    /// Those of `ids` that exist; for a manager: that are one.
    async fn existing(
        &mut self,
        reference: Reference,
        ids: &BTreeSet<i64>,
    ) -> Result<BTreeSet<i64>, Error>;

    /// Stores the user, whose version was one less before, and the entry in the change log.
    async fn write(&mut self, user: &User, entry: LogEntry<'_>) -> Result<(), Error>;
}

/// Why a user is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To read it.
    Read,
    /// To change it.
    Change,
}

/// An entry of the change log; the user's id, version and time stand in the user.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    /// The id of the acting account; none for a service in its own name.
    pub actor_id: Option<i64>,
    /// The name of the service that acted in its own name.
    pub service: Option<&'a str>,
    /// The door.
    pub door: Door,
    /// What changed.
    pub changes: &'a [Change],
}
