//! When an id of the change log that is missing is missing for ever.
//!
//! A transaction takes the id of its entry before it commits, so an entry with a smaller id may become
//! visible later. Once every transaction has ended that may have taken an id, the id is visible, or its
//! transaction was rolled back.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    domain::{error::Error, watch::Position},
    storage::{connect::Engine, repository::Database},
};

/// How often the transactions of PostgreSQL are looked at while ids are missing.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a transaction of the service takes at most on MariaDB while the server answers. The service ends it after 15 s. A
/// statement that runs then ends after 10 s (`max_statement_time`), and an idle transaction after 20 s
/// (`idle_write_transaction_timeout`).
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How much time counts between two looks: more passes only while the server does not answer, and its
/// transactions do not go on then.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// The transactions of PostgreSQL at one moment, by their ids, which grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::storage) struct Transactions {
    /// The id of the oldest transaction that has not ended.
    pub(in crate::storage) oldest: i64,
    /// The id of the next transaction that writes.
    pub(in crate::storage) next: i64,
    /// The largest id of the change log at that moment.
    pub(in crate::storage) newest: i64,
}

/// The ids that are missing, and the transactions that may have taken them.
#[derive(Debug)]
pub(super) struct Gaps {
    engine: Engine,
    /// The largest id that was seen at a moment, and what was under way then.
    mark: Option<(i64, Moment)>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
enum Moment {
    /// On PostgreSQL, the id of the next transaction. A transaction has its own id before it takes the
    /// id of its entry, as it first locks the row of a user.
    Transaction(i64),
    /// How long the server has answered since.
    Answering(Duration),
}

impl Gaps {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, mark: None, looked_at: None }
    }

    /// The id up to which every transaction has ended. Ids up to there that a later read of the log
    /// does not show are missing for ever.
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
            // Transactions that write follow each other.
            Engine::Sqlite => Ok(Some(seen)),
            Engine::MySql => Ok(self.ended_in_time(Instant::now(), seen)),
            Engine::Postgres => {
                let now = Instant::now();
                if self.looked_at.is_some_and(|at| now.duration_since(at) < SNAPSHOT_INTERVAL) {
                    return Ok(None);
                }
                self.looked_at = Some(now);
                Ok(self.ended_before(database.transactions().await?, seen))
            }
        }
    }

    /// The server did not answer.
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
        // An old primary, which others have left behind, does not know their transactions.
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
        let mut gaps = Gaps::new(Engine::Postgres);
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
        let mut gaps = Gaps::new(Engine::MySql);
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
