//! The updated users, and the values of their updates.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// The first id of the updated users.
pub(crate) const FIRST_ID: i64 = 1001;

/// The next update value. Every value is new, so every update changes the user. Filled users and
/// pgbench have smaller values.
static NEXT: AtomicU64 = AtomicU64::new(2_000_000_000);

/// Returns a new value for each update.
pub(crate) fn next_value() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A random id of an updated user.
pub(crate) fn random_user(users: i64) -> i64 {
    random_of(&(0..users))
}

/// A random id of a range of updated users, counted from 0.
pub(crate) fn random_of(users: &Range<i64>) -> i64 {
    FIRST_ID + rand::random_range(users.clone())
}
