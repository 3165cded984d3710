//! Metrics of the process itself, on Linux.

use opentelemetry::{KeyValue, metrics::Meter};
use procfs::{page_size, process::Process, ticks_per_second};

use super::names;

/// Observes the process at each collection.
pub(super) fn observe(meter: &Meter) {
    meter
        .f64_observable_counter(names::PROCESS_CPU_TIME)
        .with_unit("s")
        .with_description("CPU time of the process.")
        .with_callback(|observer| {
            let Ok(stat) = Process::myself().and_then(|process| process.stat()) else { return };
            for (mode, ticks) in [("user", stat.utime), ("system", stat.stime)] {
                #[expect(clippy::cast_precision_loss, reason = "centuries are exact")]
                let seconds = ticks as f64 / ticks_per_second() as f64;
                observer.observe(seconds, &[KeyValue::new(names::CPU_MODE, mode)]);
            }
        })
        .build();
    meter
        .i64_observable_up_down_counter(names::PROCESS_MEMORY_USAGE)
        .with_unit("By")
        .with_description("Resident memory of the process.")
        .with_callback(|observer| {
            let Ok(memory) = Process::myself().and_then(|process| process.statm()) else { return };
            let bytes = memory.resident.saturating_mul(page_size());
            observer.observe(i64::try_from(bytes).unwrap_or(i64::MAX), &[]);
        })
        .build();
    meter
        .i64_observable_up_down_counter(names::PROCESS_UNIX_FILE_DESCRIPTOR_COUNT)
        .with_unit("{file_descriptor}")
        .with_description("Open file descriptors of the process.")
        .with_callback(|observer| {
            let Ok(count) = Process::myself().and_then(|process| process.fd_count()) else {
                return;
            };
            observer.observe(i64::try_from(count).unwrap_or(i64::MAX), &[]);
        })
        .build();
}
