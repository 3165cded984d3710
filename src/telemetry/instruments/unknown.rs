//! Metric of stored values that are unknown to this version.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};

use super::Instruments;
use crate::telemetry::names;

pub(super) fn counter(meter: &Meter) -> Counter<u64> {
    let counter = meter.u64_counter(names::STORAGE_UNKNOWN_VALUES).with_unit("{value}");
    counter.with_description("Reads of stored values that this version does not know.").build()
}

impl Instruments {
    /// Counts unknown values of a table.
    pub(crate) fn unknown_values(&self, values: u64, table: &'static str) {
        self.unknown_values.add(values, &[KeyValue::new(names::DB_COLLECTION_NAME, table)]);
    }
}
