//! Watching the change log: which of its entries a watcher has seen.
//!
//! Ids of entries grow, but transactions commit out of their order: an entry may become visible after one with a larger id.
//! So a position is not one id but the largest that was seen and the smaller ones that were not. An id that stays missing for
//! longer than any transaction takes belongs to one that was rolled back, and is settled. Entries of one user commit in the order
//! of their ids, since each transaction holds the lock of the user's row when it takes its id.

use std::sync::Arc;

use async_trait::async_trait;

use super::{error::Error, listing::LoggedChange, rules::Scope};

/// Which entries were seen: all up to the largest id, but for those that are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    seen: i64,
    /// The first and the last id of each gap, in their order and apart from each other, all below `seen`.
    missing: Vec<(i64, i64)>,
}

impl Position {
    /// A position, unless it is none.
    pub fn new(seen: i64, missing: Vec<(i64, i64)>) -> Option<Self> {
        let mut next = 0;
        let in_order = missing.iter().all(|(first, last)| {
            let behind = *first >= next && first <= last;
            next = last.saturating_add(1);
            behind
        });
        (seen >= 0 && in_order && (missing.is_empty() || next <= seen))
            .then_some(Self { seen, missing })
    }

    /// The largest id that was seen.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// The first and the last id of each gap below it, in their order.
    pub fn missing(&self) -> &[(i64, i64)] {
        &self.missing
    }

    /// The largest id up to which nothing is missing.
    pub fn floor(&self) -> i64 {
        self.missing.first().map_or(self.seen, |(first, _)| first - 1)
    }

    /// Whether an entry was seen.
    pub fn contains(&self, id: i64) -> bool {
        let index = self.missing.partition_point(|(_, last)| *last < id);
        id <= self.seen && self.missing.get(index).is_none_or(|(first, _)| id < *first)
    }

    /// Takes an entry for seen. Those between it and the largest one before are missing.
    pub fn see(&mut self, id: i64) {
        if id > self.seen {
            if id > self.seen + 1 {
                self.missing.push((self.seen + 1, id - 1));
            }
            self.seen = id;
        } else {
            self.fill(id);
        }
    }

    /// Takes an entry for seen where nothing that matters lies between it and the largest one before.
    pub fn see_alone(&mut self, id: i64) {
        self.fill(id);
        self.seen = self.seen.max(id);
    }

    /// Takes everything up to an id that is missing for never to come.
    pub fn settle(&mut self, id: i64) {
        self.missing.retain_mut(|(first, last)| {
            *first = (*first).max(id.saturating_add(1));
            *first <= *last
        });
    }

    fn fill(&mut self, id: i64) {
        let index = self.missing.partition_point(|(_, last)| *last < id);
        let Some((first, last)) = self.missing.get(index).copied() else { return };
        if id < first {
            return;
        }
        let parts = [(first, id - 1), (id + 1, last)];
        self.missing.splice(index..=index, parts.into_iter().filter(|(first, last)| first <= last));
    }
}

/// Which entries are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Of one user; of all without it.
    pub user_id: Option<i64>,
    /// Of users within this scope.
    pub scope: Scope,
}

/// One who watches.
#[async_trait]
pub trait Watch: Send {
    /// The next entries, perhaps none, as soon as there may be some. If it is dropped before it has answered, nothing is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn next(&mut self) -> Result<Portion, Error>;

    /// The position behind all entries so far.
    fn position(&self) -> &Position;

    /// Whether it has seen all that is there, but for what was stored just now.
    fn is_current(&self) -> bool;
}

/// Some entries that a watcher gets, each with the position right behind it, in an order that keeps those of each user in
/// theirs.
pub type Portion = Vec<(Arc<LoggedChange>, Position)>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_opened_filled_and_settled() {
        let mut position = Position::default();
        position.see(5);
        position.see(9);
        assert_eq!(position.missing(), [(1, 4), (6, 8)]);
        assert_eq!((position.floor(), position.seen()), (0, 9));
        position.see(7);
        assert_eq!(position.missing(), [(1, 4), (6, 6), (8, 8)]);
        assert!(position.contains(7) && !position.contains(8) && !position.contains(10));
        position.settle(3);
        assert_eq!(position.missing(), [(4, 4), (6, 6), (8, 8)]);
        position.settle(8);
        assert_eq!((position.missing().len(), position.floor()), (0, 9));
        position.see_alone(20);
        assert!(position.missing().is_empty() && position.contains(15));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for (seen, missing) in
            [(-1, vec![]), (5, vec![(3, 2)]), (5, vec![(3, 5)]), (9, vec![(4, 5), (5, 6)])]
        {
            assert_eq!(Position::new(seen, missing), None);
        }
        assert!(Position::new(9, vec![(4, 5), (7, 8)]).is_some());
    }

    proptest! {
        #[test]
        fn whatever_the_order_each_id_is_seen_once(ids in Just((1..60_i64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut position = Position::default();
            for (index, id) in ids.iter().enumerate() {
                prop_assert!(!position.contains(*id));
                position.see(*id);
                prop_assert!(ids[..=index].iter().all(|id| position.contains(*id)));
                let again = Position::new(position.seen(), position.missing().to_vec());
                prop_assert_eq!(again.as_ref(), Some(&position));
            }
            prop_assert!(position.missing().is_empty());
        }
    }
}
