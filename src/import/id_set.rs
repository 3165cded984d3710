//! A set of ids, small for consecutive ids.

use std::collections::BTreeMap;

/// A set of ids: one bit per id, in words of 64 ids.
#[derive(Debug, Default)]
pub(super) struct IdSet(BTreeMap<i64, u64>);

impl IdSet {
    pub(super) fn contains(&self, id: i64) -> bool {
        let (word, bit) = place(id);
        self.0.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds an id. Returns whether it is new.
    pub(super) fn insert(&mut self, id: i64) -> bool {
        let (word, bit) = place(id);
        let bits = self.0.entry(word).or_default();
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }
}

fn place(id: i64) -> (i64, u64) {
    (id.div_euclid(64), 1 << id.rem_euclid(64))
}
