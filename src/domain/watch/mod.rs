//! Watching the change log.
//!
//! Entry ids grow, but transactions commit out of order: an entry may appear after an entry with a
//! larger id. So a [`Position`] holds the largest seen id and the gaps below it. If an id is
//! missing after all transactions of its time have ended, its transaction was rolled back, and the
//! gap is closed. Entries of one user commit in id order, because a transaction locks the user's
//! row before it takes an id.

mod budget;
mod filter;
mod position;

pub(crate) use self::budget::{CALLER_RESPONSES_LIMIT, ENTRIES_LIMIT, RESPONSES_LIMIT};

use std::sync::Arc;

use async_trait::async_trait;

pub use self::{
    budget::{Charge, ResponseShare, WatchBudget},
    filter::{EntryFilter, SubscriptionFilter, WatchStart},
    position::Position,
};
use super::{error::Error, listing::LoggedChange};

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
    /// Waits for the next entry. Entries of one user come in order. Cancel-safe: a dropped call
    /// loses no entry.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the budget of all subscriptions is exhausted, and
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn next(&mut self) -> Result<Arc<SharedChange>, Error>;

    /// The position behind the entry that [`Watch::next`] returned last.
    fn position(&self) -> &Position;

    /// Whether every visible entry was returned, except for the newest ones.
    fn is_current(&self) -> bool;

    /// Drops entries that were read but not returned. They are read again on demand.
    fn release(&mut self);

    /// The budget of all subscriptions.
    fn budget(&self) -> &Arc<WatchBudget>;
}
