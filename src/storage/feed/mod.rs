//! The change feed: one reader of the change log for all subscriptions of this replica.

mod gaps;
pub(super) mod places;
mod recent;
mod tail;
pub(super) mod wake;
mod watcher;

use std::sync::Arc;

use tokio::sync::{Mutex, broadcast};

pub(super) use self::{gaps::Transactions, wake::Wake};
use self::{
    places::Places,
    recent::{Announced, Recent},
    watcher::Watcher,
};
use super::database::Database;
use crate::{
    domain::{
        error::Error,
        watch::{Position, SubscriptionFilter, WatchBudget},
    },
    trace::Span,
};

/// Maximum number of entries per page.
const MAX_PAGE: u64 = 1000;

/// The change feed of this replica.
#[derive(Debug)]
pub(super) struct Feed {
    database: Arc<Database>,
    /// The reader's position. `None` while the reader does not run, for lack of subscriptions.
    tail: Mutex<Option<Position>>,
    recent: Recent,
    places: Arc<Places>,
    budget: Arc<WatchBudget>,
}

impl Feed {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            tail: Mutex::default(),
            recent: Recent::new(),
            places: Arc::default(),
            budget: Arc::default(),
        }
    }

    /// The memory budget of all subscriptions.
    pub(super) fn budget(&self) -> &Arc<WatchBudget> {
        &self.budget
    }

    /// Subscribes from a position, or from now.
    pub(super) async fn watch(
        self: &Arc<Self>,
        span: &Span,
        from: Option<Position>,
        watched: SubscriptionFilter,
        caller: &str,
    ) -> Result<Watcher, Error> {
        let place = self.places.take(caller)?;
        if let Some(from) = &from {
            self.check_end(span, from).await?;
            self.check_start(span, from).await?;
        }
        let (tail, receiver) = self.subscribe(span).await?;
        let feed = Arc::clone(self);
        Ok(match from {
            Some(from) => Watcher::new(feed, watched, from, None, place),
            None => {
                let mut watcher = Watcher::new(feed, watched, tail, Some(receiver), place);
                watcher.skip_visible(span).await?;
                watcher
            }
        })
    }

    /// Sets the reader's position without starting the reader.
    #[cfg(test)]
    pub(super) async fn has_read(&self, position: Position) {
        *self.tail.lock().await = Some(position);
    }

    /// Refuses a position beyond the end of the log, or whose entry differs from the log's entry.
    /// The database was restored or replaced: changes with smaller ids would be missed.
    async fn check_end(&self, span: &Span, position: &Position) -> Result<(), Error> {
        let newest = self.database.newest_changes(span, 1).await?.pop();
        if newest.unwrap_or_default() < position.seen() {
            return Err(beyond_end());
        }
        let Some(seen) = position.time() else { return Ok(()) };
        let is_same = match self.database.time_of_change(span, position.seen()).await? {
            Some(time) => time == seen,
            None => self.database.swept_up_to(span).await? >= position.seen(),
        };
        if is_same { Ok(()) } else { Err(beyond_end()) }
    }

    /// Refuses a position if a sweep may have deleted later entries.
    async fn check_start(&self, span: &Span, position: &Position) -> Result<(), Error> {
        if self.database.swept_up_to(span).await? <= position.contiguous_up_to() {
            return Ok(());
        }
        let problem = "is older than the change log is kept: read the users again".to_owned();
        Err(Error::InvalidRequest { field: "resume_token", problem })
    }

    /// The reader's position, and a receiver of all later entries. Starts the reader if needed.
    async fn subscribe(
        self: &Arc<Self>,
        span: &Span,
    ) -> Result<(Position, broadcast::Receiver<Announced>), Error> {
        let mut tail = self.tail.lock().await;
        let position = match &*tail {
            Some(position) => position.clone(),
            None => {
                let position = tail::start(&self.database, span).await?;
                *tail = Some(position.clone());
                tokio::spawn(tail::run(Arc::clone(self)));
                position
            }
        };
        Ok((position, self.recent.subscribe()))
    }
}

fn beyond_end() -> Error {
    let problem = "is beyond the end of the change log, or of another change log: the database was restored, or has lost \
                   entries; read the users again";
    Error::InvalidRequest { field: "resume_token", problem: problem.to_owned() }
}

/// The entry limit of the next page. Adapts to the size of entries, since a server sends all rows
/// of a page, even beyond the byte limit.
#[derive(Clone, Copy, Debug)]
struct PageSize(u64);

impl Default for PageSize {
    fn default() -> Self {
        Self(64)
    }
}

impl PageSize {
    /// Adapts to a page of `entries`, which the byte limit may have cut. Returns whether more
    /// entries may follow.
    fn adapt(&mut self, entries: usize, is_cut: bool) -> bool {
        let entries = entries as u64;
        let is_full = entries >= self.0;
        if is_cut {
            self.0 = (entries * 2).clamp(1, MAX_PAGE);
        } else if is_full {
            self.0 = (self.0 * 2).min(MAX_PAGE);
        }
        is_cut || is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_while_they_are_full_and_shrink_where_they_are_cut() {
        let mut size = PageSize::default();
        let full = [64, 128, 256, 512, 1000, 1000];
        for expected in full {
            assert_eq!(size.0, expected);
            assert!(size.adapt(usize::try_from(expected).unwrap(), false));
        }
        assert!(!size.adapt(999, false));
        assert!(size.adapt(3, true));
        assert_eq!(size.0, 6);
        assert!(size.adapt(1, true));
        assert_eq!(size.0, 2);
    }
}
