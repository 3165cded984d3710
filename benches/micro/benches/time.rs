//! Times each workload: `cargo bench -p m4-user-details-micro --bench time`.
#![allow(missing_docs, reason = "a program")]

use divan::{AllocProfiler, Bencher};
use m4_user_details_micro::{WORKLOADS, Workload};

/// Adds allocation counts to the times.
#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = WORKLOADS)]
fn workload(bencher: Bencher<'_, '_>, workload: &Workload) {
    bencher.with_inputs(workload.prepare).bench_local_values(|work| work());
}
