//! Counts allocations.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts allocations of all threads.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The result of some work, and the allocations of all threads meanwhile.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let region = Region::new(ALLOCATOR);
    let result = work();
    let change = region.change();
    (result, u64::try_from(change.allocations + change.reallocations).unwrap())
}
