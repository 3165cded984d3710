//! Limits failures per key and minute: the generic cell rate algorithm (GCRA) in bounded memory.
//!
//! Half of the limit is the burst, and the other half is the refill of a minute: no minute has more
//! failures than the limit. At the limit, the key is blocked.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};

/// Maximum number of keys in memory. When there are more, the half with the shortest debts is forgotten.
const MAX_KEYS: usize = 100_000;
/// The microseconds of a minute.
const MINUTE: i64 = 60_000_000;

/// The failures of each key.
#[derive(Debug, Default)]
pub(super) struct FailureRate {
    /// By the hash of the key.
    cells: Mutex<HashMap<u64, Cell>>,
    /// Whether there is a cell: spares calls the lock.
    has_cells: AtomicBool,
    hasher: RandomState,
}

/// Times in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// When the failures no longer count: the theoretical arrival time of GCRA.
    debt_end: i64,
    block_end: i64,
}

/// The effect of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing.
    Counted,
    /// The key is blocked from now on, until this time.
    Blocks(DateTime<Utc>),
    /// The key was blocked meanwhile, until this time.
    Blocked(DateTime<Utc>),
}

impl FailureRate {
    /// Whether there was no failure lately.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_cells.load(Ordering::Relaxed)
    }

    /// When the block of a key ends; `None` without a block.
    pub(super) fn block_end(&self, key: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.is_empty() {
            return None;
        }
        let end = self.cells().get(&self.hasher.hash_one(key))?.block_end;
        (end > now.timestamp_micros()).then(|| time(end))
    }

    /// Counts a failure. `limit` is the maximum number of failures per minute: at least 2, or 0 for no
    /// limit.
    pub(super) fn add(
        &self,
        key: &str,
        limit: u32,
        block: TimeDelta,
        now: DateTime<Utc>,
    ) -> Failure {
        let micros = now.timestamp_micros();
        let refill = i64::from(limit / 2);
        let Some(interval) = MINUTE.checked_div(refill) else { return Failure::Counted };
        let burst = i64::from(limit) - refill;
        let mut cells = self.cells();
        if cells.len() >= MAX_KEYS {
            shrink(&mut cells, micros);
        }
        let cell = match cells.entry(self.hasher.hash_one(key)) {
            Entry::Occupied(cell) => cell.into_mut(),
            Entry::Vacant(cell) => cell.insert(Cell::default()),
        };
        self.has_cells.store(true, Ordering::Relaxed);
        if cell.block_end > micros {
            return Failure::Blocked(time(cell.block_end));
        }
        cell.debt_end = cell.debt_end.clamp(micros, micros + (burst - 1) * interval) + interval;
        if cell.debt_end - micros <= (burst - 1) * interval {
            return Failure::Counted;
        }
        let end = now + block;
        cell.block_end = end.timestamp_micros();
        Failure::Blocks(end)
    }

    /// Forgets the failures of a key, and lets its block end soon: the stored block takes over.
    pub(super) fn hand_over(&self, key: &str, end: DateTime<Utc>) {
        if let Some(cell) = self.cells().get_mut(&self.hasher.hash_one(key)) {
            let end = end.timestamp_micros();
            *cell = Cell { debt_end: 0, block_end: cell.block_end.min(end) };
        }
    }

    /// Frees the memory of keys whose failures no longer count.
    pub(super) fn tidy(&self, now: DateTime<Utc>) {
        let (mut cells, now) = (self.cells(), now.timestamp_micros());
        cells.retain(|_, cell| cell.end() > now);
        let len = cells.len();
        cells.shrink_to(2 * len);
        self.has_cells.store(len > 0, Ordering::Relaxed);
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<u64, Cell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    fn end(&self) -> i64 {
        self.debt_end.max(self.block_end)
    }
}

/// Drops the cells without debt, and more of them, up to half of the maximum: an attacker with as many
/// keys gains nothing.
fn shrink(cells: &mut HashMap<u64, Cell>, now: i64) {
    cells.retain(|_, cell| cell.end() > now);
    if cells.len() > MAX_KEYS / 2 {
        let mut ends: Vec<_> = cells.values().map(Cell::end).collect();
        let excess = ends.len() - MAX_KEYS / 2;
        let (_, first_kept, _) = ends.select_nth_unstable(excess);
        let first_kept = *first_kept;
        let mut kept = 0;
        cells.retain(|_, cell| {
            let keep = cell.end() >= first_kept && kept < MAX_KEYS / 2;
            kept += usize::from(keep);
            keep
        });
    }
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: TimeDelta = TimeDelta::minutes(5);

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + millis).unwrap()
    }

    /// The times of the failures that are counted, of an attempt every `step` milliseconds.
    fn counted(limit: u32, block: TimeDelta, step: usize, end: i64) -> Vec<i64> {
        let rate = FailureRate::default();
        let attempts = (0..end).step_by(step).filter(|millis| {
            rate.block_end("key", at(*millis)).is_none()
                && !matches!(rate.add("key", limit, block, at(*millis)), Failure::Blocked(_))
        });
        attempts.collect()
    }

    #[test]
    fn no_minute_has_more_failures_than_the_limit() {
        for limit in [2, 3, 10, 61, 600] {
            for step in [1, 7, 100, 990, 1999, 31_000] {
                let times = counted(limit, TimeDelta::minutes(1), step, 400_000);
                for (index, start) in times.iter().enumerate() {
                    let minute = times[index..].iter().take_while(|time| **time < start + 60_000);
                    let count = minute.count();
                    assert!(count <= limit as usize, "{count} of {limit}, every {step} ms");
                }
                assert!(!times.is_empty());
            }
        }
    }

    #[test]
    fn a_rate_of_half_the_limit_is_never_blocked() {
        assert_eq!(counted(60, BLOCK, 2000, 600_000).len(), 300);
        // Without a limit, nothing is blocked.
        assert_eq!(counted(0, BLOCK, 1, 10_000).len(), 10_000);
    }

    #[test]
    fn a_block_ends_and_keys_are_apart() {
        let rate = FailureRate::default();
        assert_eq!(rate.add("one", 4, BLOCK, at(0)), Failure::Counted);
        assert_eq!(rate.add("one", 4, BLOCK, at(0)), Failure::Blocks(at(300_000)));
        assert_eq!(rate.add("one", 4, BLOCK, at(1)), Failure::Blocked(at(300_000)));
        assert_eq!(rate.block_end("one", at(299_999)), Some(at(300_000)));
        assert_eq!(rate.block_end("one", at(300_000)), None);
        assert_eq!(rate.block_end("other", at(0)), None);
        assert_eq!(rate.add("other", 4, BLOCK, at(0)), Failure::Counted);
    }

    #[test]
    fn a_stored_block_takes_over() {
        let rate = FailureRate::default();
        rate.add("one", 2, BLOCK, at(0));
        rate.hand_over("one", at(2000));
        assert_eq!(rate.block_end("one", at(1999)), Some(at(2000)));
        assert_eq!(rate.block_end("one", at(2000)), None);
        assert!(!rate.is_empty());
        rate.tidy(at(2000));
        assert!(rate.is_empty());
    }

    #[test]
    fn half_of_the_keys_stay_however_many_count_no_longer() {
        for expired in [0, MAX_KEYS / 10, MAX_KEYS / 2 - 1, MAX_KEYS / 2, MAX_KEYS] {
            let rate = FailureRate::default();
            for key in 0..MAX_KEYS {
                // The first ones no longer count at the end.
                let time = if key < expired { at(-60_000) } else { at(0) };
                rate.add(&key.to_string(), 600, BLOCK, time);
            }
            rate.add("one more", 600, BLOCK, at(10));
            let live = MAX_KEYS - expired;
            assert_eq!(rate.cells().len(), live.min(MAX_KEYS / 2) + 1, "{expired}");
        }
    }

    #[test]
    fn a_million_keys_take_bounded_memory_and_free_nobody() {
        let rate = FailureRate::default();
        for _ in 0..3 {
            rate.add("blocked", 6, BLOCK, at(0));
        }
        for key in 0..1_000_000 {
            rate.add(&key.to_string(), 600, BLOCK, at(key / 1000));
            assert!(rate.cells().len() <= MAX_KEYS);
        }
        assert!(rate.cells().capacity() <= 4 * MAX_KEYS);
        assert!(rate.block_end("blocked", at(1000)).is_some());
        rate.tidy(at(3_600_000));
        assert_eq!(rate.cells().capacity(), 0);
    }
}
