//! Where a subscription begins.

use chrono::{DateTime, Utc};

use super::{state::Feed, tail};
use crate::{
    domain::{
        error::Error,
        watch::{Position, WatchStart},
    },
    storage::sql::entities::database_epoch::Model,
    trace::Span,
};

impl Feed {
    /// The position at which a subscription begins; `None` for now.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the log no longer reaches back to the start, or not yet.
    pub(super) async fn first_position(
        &self,
        span: &Span,
        start: WatchStart,
    ) -> Result<Option<Position>, Error> {
        Ok(match start {
            WatchStart::Now => None,
            WatchStart::Position(position) => {
                self.check_end(span, &position).await?;
                self.check_start(span, &position, "resume_token").await?;
                Some(position)
            }
            WatchStart::Earliest => Some(behind(self.database.swept_up_to(span).await?)),
            WatchStart::After(id) => {
                let (position, field) = (behind(id), "start_after_change_id");
                let newest = self.database.newest_changes(span, 1).await?.pop();
                if id < 0 || id > newest.unwrap_or_default() {
                    let problem = "is not the id of an entry of the change log".to_owned();
                    return Err(Error::InvalidRequest { field, problem });
                }
                let epochs = self.database.epochs(span).await?;
                let is_lost =
                    |epoch: &Model| id > epoch.last_change_id && id < epoch.first_change_id;
                if epochs.iter().any(is_lost) {
                    let problem = "was read before the database was restored: read the users again";
                    return Err(Error::InvalidRequest { field, problem: problem.to_owned() });
                }
                self.check_start(span, &position, field).await?;
                Some(position)
            }
            WatchStart::Since(time) => self.since(span, time).await?,
        })
    }

    async fn since(&self, span: &Span, time: DateTime<Utc>) -> Result<Option<Position>, Error> {
        let swept = self.database.swept_up_to(span).await?;
        let Some(first) = self.database.first_change_since(span, time).await? else {
            return Ok(None);
        };
        // An entry that is stored later may have a smaller id.
        let stored = self.position(span).await?.contiguous_up_to();
        let position = behind((first - 1).min(stored));
        if swept > 0 {
            // Deleted entries are older than the oldest entry.
            let oldest = self.database.oldest_change().await?.unwrap_or(first);
            let oldest = self.database.time_of_change(span, oldest).await?;
            if oldest.is_none_or(|oldest| time < oldest) {
                self.check_start(span, &behind(0), "start_time").await?;
            }
        }
        Ok(Some(position))
    }

    /// A position. A later read sees every entry up to it.
    pub(in crate::storage) async fn position(&self, span: &Span) -> Result<Position, Error> {
        let running = self.tail.lock().await.clone();
        match running {
            Some(position) => Ok(position),
            // An older position is as good, and spares the database.
            None => self.positions.get(tail::start(&self.database, span)).await,
        }
    }
}

/// The position behind an id. Smaller ids do not matter.
fn behind(id: i64) -> Position {
    Position::new(id, Vec::new()).unwrap_or_default()
}
