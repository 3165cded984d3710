//! Positions in the change log.

mod codec;

use chrono::{DateTime, Utc};

/// The entries that a subscription has seen: all ids up to `seen`, except `missing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    seen: i64,
    /// The time of the entry `seen`, if known. In a restored log, another entry has this id.
    time: Option<DateTime<Utc>>,
    /// The first and last id of each gap: ascending, disjoint, below `seen`.
    missing: Vec<(i64, i64)>,
}

impl Position {
    /// `None` if `seen` is negative or the gaps are not ascending, disjoint and below `seen`.
    pub fn new(seen: i64, missing: Vec<(i64, i64)>) -> Option<Self> {
        let mut next = 0;
        let in_order = missing.iter().all(|(first, last)| {
            let behind = *first >= next && first <= last;
            next = last.saturating_add(1);
            behind
        });
        (seen >= 0 && in_order && (missing.is_empty() || next <= seen)).then_some(Self {
            seen,
            time: None,
            missing,
        })
    }

    /// The largest id that was seen.
    pub fn seen(&self) -> i64 {
        self.seen
    }

    /// The time of the entry with the largest seen id, if known.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.time
    }

    /// Records the time of an entry if its id is the largest seen.
    pub fn note_time(&mut self, id: i64, time: DateTime<Utc>) {
        if id == self.seen {
            self.time = Some(time);
        }
    }

    /// The first and last id of each gap, ascending.
    pub fn missing(&self) -> &[(i64, i64)] {
        &self.missing
    }

    /// The largest id up to which nothing is missing.
    pub fn contiguous_up_to(&self) -> i64 {
        self.missing.first().map_or(self.seen, |(first, _)| first - 1)
    }

    /// Whether an entry was seen.
    pub fn contains(&self, id: i64) -> bool {
        let index = self.missing.partition_point(|(_, last)| *last < id);
        id <= self.seen && self.missing.get(index).is_none_or(|(first, _)| id < *first)
    }

    /// Marks an entry as seen. The ids between the previous largest id and `id` become a gap.
    pub fn observe(&mut self, id: i64) {
        if id > self.seen {
            if id > self.seen + 1 {
                self.missing.push((self.seen + 1, id - 1));
            }
            (self.seen, self.time) = (id, None);
        } else {
            self.fill(id);
        }
    }

    /// Marks an entry as seen and opens no gap, because no relevant entry lies in between.
    pub fn observe_without_gap(&mut self, id: i64) {
        self.fill(id);
        if id > self.seen {
            (self.seen, self.time) = (id, None);
        }
    }

    /// Closes the gaps up to an id: their transactions were rolled back.
    pub fn expire_gaps(&mut self, id: i64) {
        self.missing.retain_mut(|(first, last)| {
            *first = (*first).max(id.saturating_add(1));
            *first <= *last
        });
        if self.missing.capacity() > 2 * self.missing.len() + MIN_CAPACITY {
            self.missing.shrink_to_fit();
        }
    }

    /// The memory of the gaps, in bytes.
    pub fn memory(&self) -> usize {
        self.missing.capacity() * size_of::<(i64, i64)>()
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

/// Gap capacity that a position keeps after its gaps close.
const MIN_CAPACITY: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gaps_are_opened_filled_and_settled() {
        let mut position = Position::default();
        position.observe(5);
        position.observe(9);
        assert_eq!(position.missing(), [(1, 4), (6, 8)]);
        assert_eq!((position.contiguous_up_to(), position.seen()), (0, 9));
        position.observe(7);
        assert_eq!(position.missing(), [(1, 4), (6, 6), (8, 8)]);
        assert!(position.contains(7) && !position.contains(8) && !position.contains(10));
        position.expire_gaps(3);
        assert_eq!(position.missing(), [(4, 4), (6, 6), (8, 8)]);
        position.expire_gaps(8);
        assert_eq!((position.missing().len(), position.contiguous_up_to()), (0, 9));
        position.observe_without_gap(20);
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
                position.observe(*id);
                prop_assert!(ids[..=index].iter().all(|id| position.contains(*id)));
                let again = Position::new(position.seen(), position.missing().to_vec());
                prop_assert_eq!(again.as_ref(), Some(&position));
            }
            prop_assert!(position.missing().is_empty());
        }
    }
}
