//! The change feed: one reader of the change log for all subscriptions of this replica.

mod gaps;
pub(super) mod notify;
mod page_size;
pub(super) mod places;
mod recent;
mod start;
mod state;
mod tail;
mod wake;
mod watcher;

pub(super) use self::{gaps::Transactions, state::Feed, wake::Wake};
