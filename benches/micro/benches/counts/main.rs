//! Compares instructions and allocations with the table in `counts.md`: `cargo bench -p
//! m4-user-details-micro --bench counts`. `-- --write` rewrites the table.
//!
//! Unlike times, counts are the same on a busy machine, so CI rejects growth of more than a tenth.
//! Needs valgrind.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark may stop at any failure"
)]

mod allocations;
mod calls;
mod instructions;
mod telemetry;

use std::{
    fs,
    process::{Command, ExitCode},
};

use clap::Parser;
use m4_user_details_micro::{
    WORKLOADS, Workload,
    table::{self, Row},
};

use crate::allocations::counted;

/// The kept table.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.md");

#[derive(Debug, Parser)]
struct Arguments {
    /// Write the table instead of comparing with it.
    #[arg(long)]
    write: bool,
    /// Run only this workload, `--times` times; for valgrind.
    #[arg(long)]
    workload: Option<String>,
    /// Number of runs.
    #[arg(long)]
    times: Option<usize>,
    /// Count only the allocations of `--times` calls of this kind; run as a separate process.
    #[arg(long)]
    call: Option<String>,
    /// Enable metrics, and also traces if the standard variables do.
    #[arg(long)]
    measured: bool,
    /// cargo passes this flag to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let (Some(name), Some(times)) = (arguments.workload, arguments.times) {
        let workload = WORKLOADS.iter().find(|workload| workload.name == name);
        instructions::run(workload.expect("no such workload"), times);
        return ExitCode::SUCCESS;
    }
    if let Some(name) = arguments.call {
        let call = calls::CALLS.iter().find(|call| call.name == name);
        let times = arguments.times.unwrap_or(calls::COUNTED);
        let call = call.expect("no such call");
        println!("{}", calls::allocations(call, times, arguments.measured));
        return ExitCode::SUCCESS;
    }
    if let Err(problem) = instructions::find_valgrind() {
        eprintln!("{problem}");
        return ExitCode::FAILURE;
    }
    let rows = measure();
    let text = table::to_markdown(&rows);
    print!("{text}");
    for call in [&calls::CALLS[0], &calls::CALLS[3]] {
        let telemetry = telemetry::cost(call);
        println!("{telemetry}");
        if !telemetry.is_small() {
            return ExitCode::FAILURE;
        }
    }
    if arguments.write {
        fs::write(TABLE, format!("{}{text}", heading())).unwrap();
        return ExitCode::SUCCESS;
    }
    compare(&rows)
}

fn measure() -> Vec<Row> {
    let workloads = WORKLOADS.iter().map(|workload| Row {
        name: workload.name.to_owned(),
        instructions: Some(instructions::count(workload)),
        allocations: allocations(workload),
    });
    let calls = calls::CALLS.iter().map(|call| Row {
        name: call.name.to_owned(),
        instructions: None,
        allocations: calls::allocations_alone(call),
    });
    workloads.chain(calls).collect()
}

/// The allocations of a workload after one-time initialization.
fn allocations(workload: &Workload) -> u64 {
    (workload.prepare)()();
    let work = (workload.prepare)();
    counted(work).1
}

fn heading() -> String {
    let rustc = Command::new("rustc").arg("--version").output().unwrap().stdout;
    let rustc = String::from_utf8(rustc).unwrap();
    format!(
        "# Instructions and allocations\n\n\
         Written by `cargo bench -p m4-user-details-micro --bench counts -- --write`, on {} with {}.\n\
         Without `--write` the same command compares: more than a tenth more is refused.\n\n",
        std::env::consts::ARCH,
        rustc.trim(),
    )
}

fn compare(rows: &[Row]) -> ExitCode {
    let kept = table::from_markdown(&fs::read_to_string(TABLE).unwrap_or_default());
    let differences = table::compare(&kept, rows);
    for gain in &differences.gains {
        println!("better: {gain}");
    }
    if !differences.gains.is_empty() {
        println!("Write the table anew, to keep it so: add -- --write");
    }
    if differences.problems.is_empty() {
        return ExitCode::SUCCESS;
    }
    for problem in &differences.problems {
        eprintln!("{problem}");
    }
    eprintln!("{TABLE} says otherwise. If it has to be so, write it anew: add -- --write");
    ExitCode::FAILURE
}
