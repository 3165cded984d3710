//! Metrics of the connection pools.

use std::sync::atomic::Ordering;

use super::{connect::Pools, unknown};
use crate::{
    domain::{hash::Recipe, legacy_key::MatchedKey, update::EntryPoint},
    fields::FIELDS,
    telemetry::instruments::{Pool, instruments},
};

/// Registers the pool metrics, if metrics are enabled.
pub(super) fn observe(pools: &Pools) {
    let Some(instruments) = instruments() else { return };
    // Start every counter at 0: `increase()` misses the first increment of a series that appears
    // late.
    for door in [EntryPoint::Grpc, EntryPoint::Legacy] {
        for field in FIELDS {
            instruments.updates(0, door.as_str(), field.group());
        }
    }
    instruments.hashes_failed(0);
    instruments.new_legacy_client(0);
    for kind in ["address", "username"] {
        instruments.legacy_blocks(0, kind);
    }
    for is_get in [false, true] {
        let key = MatchedKey::Default.name().to_owned();
        instruments.key_calls(0, key, Recipe::UsernameUserId.as_str(), is_get);
    }
    for table in unknown::TABLES {
        instruments.unknown_values(0, table);
    }
    instruments.connections.timed_out(0, pools.queue.pool);
    let pools = pools.clone();
    instruments.connections.observe(move || {
        let mut states: Vec<_> = pools.states().into_iter().map(state).collect();
        states[0].pending = pools.queue.waiting.load(Ordering::Relaxed);
        states
    });
}

fn state((name, counts): (&'static str, [usize; 3])) -> Pool {
    let [idle, used, most] = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    Pool { name, idle, used, most, least: 0, pending: 0 }
}
