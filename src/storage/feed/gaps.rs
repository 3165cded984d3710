//! Decides when a missing id of the change log is missing for ever.
//!
//! A transaction takes an entry's id before it commits, so a smaller id may become visible later.
//! Once all transactions that may have taken an id have ended, the id is visible or rolled back.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    domain::{error::Error, watch::Position},
    storage::{connect::Engine, database::Database},
};

/// Upper bound for a transaction of the service on MariaDB while the server answers. The service
/// ends a transaction after 15 s. A running statement then ends after 10 s (`max_statement_time`),
/// and an idle transaction after 2 s (`idle_transaction_timeout`).
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time counted between two polls. More time passes only while the server does not answer,
/// and its transactions stand still then.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// The transactions of a PostgreSQL snapshot. Transaction ids grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct Transactions {
    /// The id of the oldest open transaction.
    pub(in crate::storage) oldest: i64,
    /// The id of the next write transaction.
    pub(in crate::storage) next: i64,
    /// The largest id of the change log in the snapshot.
    pub(in crate::storage) newest: i64,
}

/// Tracks transactions that may still fill missing ids.
#[derive(Debug)]
pub(super) struct Gaps {
    engine: Engine,
    snapshot_interval: Duration,
    /// The largest id seen at a moment, and the transactions open at that moment.
    mark: Option<(i64, Moment)>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
enum Moment {
    /// PostgreSQL: the id of the next transaction. A transaction gets its own id before its entry's
    /// id, because it first locks a user's row.
    Transaction(i64),
    /// MariaDB and MySQL: how long the server has answered since that moment.
    Answering(Duration),
}

impl Gaps {
    /// On PostgreSQL, takes at most one snapshot per `snapshot_interval`.
    pub(super) fn new(engine: Engine, snapshot_interval: Duration) -> Self {
        Self { engine, snapshot_interval, mark: None, looked_at: None }
    }

    /// The id up to which every transaction has ended. Smaller ids that a later read does not show
    /// are missing for ever.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub(super) async fn ended(
        &mut self,
        database: &Database,
        position: &Position,
    ) -> Result<Option<i64>, Error> {
        if position.missing().is_empty() {
            self.mark = None;
            return Ok(None);
        }
        let seen = position.seen();
        match self.engine {
            // SQLite has one write transaction at a time.
            Engine::Sqlite => Ok(Some(seen)),
            Engine::MySql => Ok(self.ended_in_time(Instant::now(), seen)),
            Engine::Postgres => {
                let now = Instant::now();
                if self.looked_at.is_some_and(|at| now.duration_since(at) < self.snapshot_interval)
                {
                    return Ok(None);
                }
                self.looked_at = Some(now);
                Ok(self.ended_before(database.transactions().await?, seen))
            }
        }
    }

    /// Stops counting time: the server did not answer.
    pub(super) fn no_answer(&mut self) {
        self.looked_at = None;
    }

    fn ended_in_time(&mut self, now: Instant, seen: i64) -> Option<i64> {
        let step = self.looked_at.replace(now).map_or(Duration::ZERO, |at| now.duration_since(at));
        let ended = match &mut self.mark {
            Some((seen, Moment::Answering(time))) => {
                *time += step.min(LONGEST_STEP);
                (*time >= TRANSACTION_TIMEOUT).then_some(*seen)
            }
            _ => None,
        };
        self.mark(ended, seen, Moment::Answering(Duration::ZERO));
        ended
    }

    fn ended_before(&mut self, now: Transactions, seen: i64) -> Option<i64> {
        // An old primary does not know the transactions of the new primary.
        if now.newest < seen {
            return None;
        }
        let ended = match self.mark {
            Some((seen, Moment::Transaction(next))) => (now.oldest >= next).then_some(seen),
            _ => None,
        };
        self.mark(ended, seen, Moment::Transaction(now.next));
        ended
    }

    fn mark(&mut self, ended: Option<i64>, seen: i64, moment: Moment) {
        if self.mark.is_none() || ended.is_some() {
            self.mark = Some((seen, moment));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_missing_for_ever_once_the_transactions_of_its_time_have_ended() {
        let mut gaps = Gaps::new(Engine::Postgres, Duration::ZERO);
        let mut look =
            |oldest, next, seen| gaps.ended_before(Transactions { oldest, next, newest: 12 }, seen);
        assert_eq!(look(100, 105, 7), None);
        // 104 may still store an entry before 7.
        assert_eq!(look(104, 120, 9), None);
        assert_eq!(look(105, 120, 9), Some(7));
        // Ids between 7 and 9 were taken by transactions before 120.
        assert_eq!(look(119, 121, 9), None);
        // The server's log ends before 13.
        assert_eq!(look(130, 131, 13), None);
        assert_eq!(look(120, 121, 12), Some(9));
    }

    #[tokio::test(start_paused = true)]
    async fn without_snapshots_an_id_is_missing_for_ever_after_the_longest_transaction() {
        let mut gaps = Gaps::new(Engine::MySql, Duration::ZERO);
        assert_eq!(gaps.ended_in_time(Instant::now(), 7), None);
        // The server is frozen.
        tokio::time::advance(TRANSACTION_TIMEOUT * 10).await;
        gaps.no_answer();
        for _ in 0..TRANSACTION_TIMEOUT.as_secs() {
            assert_eq!(gaps.ended_in_time(Instant::now(), 9), None);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(gaps.ended_in_time(Instant::now(), 9), Some(7));
        assert_eq!(gaps.ended_in_time(Instant::now(), 9), None);
    }
}
