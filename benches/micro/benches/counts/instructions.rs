//! Instructions, counted by valgrind's callgrind.

use std::{env, fs, process::Command};

use m4_user_details_micro::{Work, Workload};

/// Runs per workload: enough to average out the random seeds of hash tables.
const TIMES: usize = 200;

/// Explains how to install valgrind if it is missing.
pub(crate) fn find_valgrind() -> Result<(), String> {
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("valgrind is needed to count instructions: apt-get install valgrind".to_owned()),
    }
}

/// The instructions of a workload. The difference between `TIMES` and `2 * TIMES` runs excludes the
/// process start and the inputs.
pub(crate) fn count(workload: &Workload) -> u64 {
    let (once, twice) = (total(workload, TIMES), total(workload, 2 * TIMES));
    (twice - once) / TIMES as u64
}

/// Runs a workload `times` times. The number of inputs is constant, and some are left over: freeing
/// the last one would compact the heap, which would count.
pub(crate) fn run(workload: &Workload, times: usize) {
    let mut works: Vec<Work> = (0..3 * TIMES).map(|_| (workload.prepare)()).collect();
    for work in works.drain(..times) {
        work();
    }
    // Dropping unused inputs would count.
    std::mem::forget(works);
}

/// The instructions of a process that runs a workload `times` times.
fn total(workload: &Workload, times: usize) -> u64 {
    let arguments = ["--workload", workload.name, "--times", &times.to_string()];
    let profile = profile(&arguments, &[("OTEL_SDK_DISABLED", "true")]);
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.parse().ok()).expect("callgrind gives no total")
}

/// The callgrind profile of this program with these arguments and variables.
pub(crate) fn profile(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        // With enough room, glibc does not compact its free lists.
        .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=127")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe().unwrap())
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed under valgrind: {said}");
    fs::read_to_string(file).unwrap()
}
