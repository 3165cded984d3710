//! Where the time of a call goes: CPU time and file reads of each process, and the work of the
//! database, from the counters of the kernel and the database.

use std::{
    fs,
    ops::{AddAssign, Sub},
    path::Path,
    time::Instant,
};

use serde::Serialize;

use crate::{
    database::Database,
    engine::Engine,
    measured::{Run, count},
    program::Program,
};

/// Clock tick of `/proc`, in seconds: 100 Hz on every Linux.
const TICK: f64 = 0.01;

/// Resources used so far, or between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Wall-clock time, in seconds.
    time: f64,
    client: Process,
    service: Process,
    server: Process,
    transactions: f64,
    log_bytes: f64,
}

/// Resources used by processes.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    /// CPU seconds.
    processor: f64,
    /// Bytes read from files, in the page cache or on disk.
    read: f64,
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            time: self.time - before.time,
            client: self.client - before.client,
            service: self.service - before.service,
            server: self.server - before.server,
            transactions: self.transactions - before.transactions,
            log_bytes: self.log_bytes - before.log_bytes,
        }
    }
}

impl AddAssign for Used {
    fn add_assign(&mut self, more: Self) {
        self.time += more.time;
        self.client += more.client;
        self.service += more.service;
        self.server += more.server;
        self.transactions += more.transactions;
        self.log_bytes += more.log_bytes;
    }
}

impl Sub for Process {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { processor: self.processor - before.processor, read: self.read - before.read }
    }
}

impl AddAssign for Process {
    fn add_assign(&mut self, more: Self) {
        self.processor += more.processor;
        self.read += more.read;
    }
}

/// Resources per call.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cost {
    /// CPU microseconds of the callers; on SQLite also of the limit.
    pub(crate) client: f64,
    /// CPU microseconds of the service and the gateway.
    pub(crate) service: f64,
    /// CPU microseconds of the database server.
    pub(crate) server: f64,
    /// Number of busy processors.
    pub(crate) busy: f64,
    /// Bytes read from files by the processes that have the database open.
    pub(crate) read: f64,
    /// Writing transactions of the database; 0 on SQLite, which has no such counter.
    pub(crate) transactions: f64,
    /// Bytes written to the database's log; 0 on SQLite, which has no such counter.
    pub(crate) log_bytes: f64,
}

impl Cost {
    /// The average cost per call over all runs.
    pub(crate) fn of(runs: &[Run]) -> Self {
        let mut used = Used::default();
        let mut calls = 0.0;
        for run in runs {
            used += run.used;
            calls += count(run.done);
        }
        let each = |total: f64| total / f64::max(calls, 1.0);
        let Used { time, client, service, server, transactions, log_bytes } = used;
        let processors = client.processor + service.processor + server.processor;
        Self {
            client: each(client.processor * 1e6),
            service: each(service.processor * 1e6),
            server: each(server.processor * 1e6),
            busy: processors / f64::max(time, f64::MIN_POSITIVE),
            // Only the server reads its files; without a server, the service or the limit does.
            read: each(if server.processor > 0.0 {
                server.read
            } else {
                client.read + service.read
            }),
            transactions: each(transactions),
            log_bytes: each(log_bytes),
        }
    }
}

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
