//! Where the time of a call goes: CPU time and file reads of each process, and the work of the
//! database, from the counters of the kernel and the database.

use std::{fs, path::Path, time::Instant};

use crate::{
    cost::{Process, Used},
    database::Database,
    engine::Engine,
    measured::Run,
    program::Program,
};

/// Clock tick of `/proc`, in seconds: 100 Hz on every Linux.
const TICK: f64 = 0.01;

/// Runs `run` and measures its resources.
pub(crate) async fn of(
    database: &Database,
    programs: &[&Program],
    run: impl Future<Output = Run>,
) -> Run {
    let (begun, before) = (Instant::now(), read(database, programs).await);
    let mut run = run.await;
    run.used = read(database, programs).await - before;
    run.used.time = begun.elapsed().as_secs_f64();
    run
}

async fn read(database: &Database, programs: &[&Program]) -> Used {
    let mut used = Used { client: process("self"), ..Used::default() };
    for program in programs {
        used.service += process(&program.id().to_string());
    }
    let counter = async |sql: &str| database.number(sql).await;
    match database.engine {
        Engine::Sqlite => {}
        Engine::Postgres(_) => {
            used.server = processes("postgres");
            let (transactions, log) = (
                "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
                "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint",
            );
            (used.transactions, used.log_bytes) = (counter(transactions).await, counter(log).await);
        }
        Engine::MariaDb(_) => {
            used.server = processes("mariadbd");
            let status = |name: &str| {
                format!(
                    "SELECT variable_value FROM information_schema.global_status WHERE variable_name = '{name}'"
                )
            };
            used.transactions = counter(&status("com_commit")).await;
            used.log_bytes = counter(&status("innodb_os_log_written")).await;
            // The kernel does not count direct I/O.
            used.server.read = counter(&status("innodb_data_read")).await;
        }
    }
    used
}

/// The resources of all processes of a program.
fn processes(program: &str) -> Process {
    let mut used = Process::default();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let is_one = |name: String| name.trim_end() == program;
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(is_one) {
            used += process(&entry.file_name().to_string_lossy());
        }
    }
    used
}

/// The resources of a process and its ended children. Unreadable values count as 0, for example for
/// processes of other users.
fn process(id: &str) -> Process {
    let file =
        |name| fs::read_to_string(Path::new("/proc").join(id).join(name)).unwrap_or_default();
    // The program name in parentheses may contain spaces. Fields 14 to 17 are times; see proc(5).
    let stat = file("stat");
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks = fields.skip(11).take(4).filter_map(|field| field.parse::<f64>().ok());
    let io = file("io");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
    Process { processor: ticks.sum::<f64>() * TICK, read: read.unwrap_or_default() }
}
