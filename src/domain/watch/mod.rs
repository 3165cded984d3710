//! Watching the change log.
//!
//! Ids of entries grow, but transactions commit out of their order: an entry may become visible after one with a larger id.
//! So a [`Position`] is not one id but the largest that was seen and the smaller ones that were not. An id that is missing after all
//! transactions of its time have ended was rolled back: the position settles it. Entries of one user commit in the order
//! of their ids, since each transaction holds the lock of the user's row when it takes its id.

mod budget;
mod position;

pub(crate) use self::budget::{CALLER_RESPONSES_LIMIT, ENTRIES_LIMIT, RESPONSES_LIMIT};

use std::sync::Arc;

use async_trait::async_trait;

pub use self::{
    budget::{Charge, ResponseShare, WatchBudget},
    position::Position,
};
use super::{error::Error, listing::LoggedChange, rules::Visibility};

/// Which entries are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionFilter {
    /// Of one user; of all without it.
    pub user_id: Option<i64>,
    /// Of users within this visibility.
    pub visibility: Visibility,
}

/// An entry of the change log that subscriptions share. Its memory is charged once, until the last
/// subscription has dropped it.
#[derive(Debug)]
pub struct SharedChange {
    change: LoggedChange,
    _charge: Charge,
}

impl SharedChange {
    /// Shares an entry, and charges its memory to the budget.
    pub fn new(change: LoggedChange, budget: &Arc<WatchBudget>) -> Arc<Self> {
        let charge = budget.charge_entry(change.memory());
        Arc::new(Self { change, _charge: charge })
    }
}

impl std::ops::Deref for SharedChange {
    type Target = LoggedChange;

    fn deref(&self) -> &LoggedChange {
        &self.change
    }
}

/// A subscription to the change log.
#[async_trait]
pub trait Watch: Send {
    /// The next entry, as soon as there is one. Entries of one user come in their order. A call that
    /// is dropped before it has answered loses nothing.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where the budget of all subscriptions is exhausted, and
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn next(&mut self) -> Result<Arc<SharedChange>, Error>;

    /// The position right behind the entry that [`Watch::next`] answered last.
    fn position(&self) -> &Position;

    /// Whether every entry that is visible was answered, except for the newest ones.
    fn is_current(&self) -> bool;

    /// Drops the entries that were read and not answered yet; they are read again when they are
    /// needed.
    fn release(&mut self);

    /// The budget of all subscriptions.
    fn budget(&self) -> &Arc<WatchBudget>;
}
