//! The state that the reader and all subscriptions share.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{places::Places, recent::Recent};
use crate::{
    domain::{
        error::Error,
        ttl_cache::TtlCache,
        watch::{Position, WatchBudget},
    },
    storage::database::Database,
    trace::Span,
};

/// The change feed of this replica.
#[derive(Debug)]
pub(in crate::storage) struct Feed {
    pub(super) database: Arc<Database>,
    /// The reader's position. `None` while the reader does not run, for lack of subscriptions.
    pub(super) tail: Mutex<Option<Position>>,
    /// A position of the last second, for callers without a subscription.
    pub(super) positions: TtlCache<Position>,
    pub(super) recent: Recent,
    pub(super) places: Arc<Places>,
    pub(super) budget: Arc<WatchBudget>,
}

impl Feed {
    pub(in crate::storage) fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            tail: Mutex::default(),
            positions: TtlCache::default(),
            recent: Recent::new(),
            places: Arc::default(),
            budget: Arc::default(),
        }
    }

    /// The memory budget of all subscriptions.
    pub(in crate::storage) fn budget(&self) -> &Arc<WatchBudget> {
        &self.budget
    }

    /// Sets the reader's position without starting the reader.
    #[cfg(test)]
    pub(in crate::storage) async fn has_read(&self, position: Position) {
        *self.tail.lock().await = Some(position);
    }

    /// Refuses a position beyond the end of the log, or whose entry differs from the log's entry.
    /// The database was restored or replaced: changes with smaller ids would be missed.
    pub(super) async fn check_end(&self, span: &Span, position: &Position) -> Result<(), Error> {
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

    /// Refuses a position if a sweep may have deleted later entries. The request has the position in
    /// `field`.
    pub(super) async fn check_start(
        &self,
        span: &Span,
        position: &Position,
        field: &'static str,
    ) -> Result<(), Error> {
        if self.database.swept_up_to(span).await? <= position.contiguous_up_to() {
            return Ok(());
        }
        let problem =
            "is older than the retention of the change log: read the users again".to_owned();
        Err(Error::InvalidRequest { field, problem })
    }
}

/// The error of a position that the log does not have.
pub(super) fn beyond_end() -> Error {
    let problem = "does not match this change log: the database was restored, or has lost \
                   entries; read the users again";
    Error::InvalidRequest { field: "resume_token", problem: problem.to_owned() }
}
