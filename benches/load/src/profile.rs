//! Where the time of a call goes: what each process uses of the processors and reads from files, and what the database
//! does for it, by the counters of the kernel and of the database.

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

/// How long a tick of the kernel's clock is, as `/proc` tells times: a hundred a second on every Linux.
const TICK: f64 = 0.01;

/// What was used until a moment, or between two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// How long that was, in seconds.
    time: f64,
    client: Process,
    service: Process,
    server: Process,
    transactions: f64,
    log_bytes: f64,
}

/// What processes used.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    /// Seconds of a processor.
    processor: f64,
    /// Bytes read from files, from the system's cache or the disk.
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

/// What one call costs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Cost {
    /// Microseconds of a processor in the callers; on SQLite the limit's as well.
    pub(crate) client: f64,
    /// Microseconds of a processor in the service and the door.
    pub(crate) service: f64,
    /// Microseconds of a processor in the database's server.
    pub(crate) server: f64,
    /// How many processors were busy with all of it.
    pub(crate) busy: f64,
    /// Bytes read from files by whoever has the database open.
    pub(crate) read: f64,
    /// Transactions of the database that wrote; none on SQLite, which does not count them.
    pub(crate) transactions: f64,
    /// Bytes that the database wrote to its log; none on SQLite, which does not count them.
    pub(crate) log_bytes: f64,
}

impl Cost {
    /// The cost of one of all the calls of some runs.
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
            // With a server, nobody else reads its files; without one, the service or the limit does.
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

/// Runs something, and finds what it used.
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
            // The kernel does not count what is read past its cache.
            used.server.read = counter(&status("innodb_data_read")).await;
        }
    }
    used
}

/// What all processes of a program used.
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

/// What a process used, and its children that have ended. What cannot be read, as that of other people's processes,
/// counts for nothing.
fn process(id: &str) -> Process {
    let file =
        |name| fs::read_to_string(Path::new("/proc").join(id).join(name)).unwrap_or_default();
    // The name of the program, in parentheses, may have spaces. The times are the 14th to the 17th field, see proc(5).
    let stat = file("stat");
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks = fields.skip(11).take(4).filter_map(|field| field.parse::<f64>().ok());
    let io = file("io");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
    Process { processor: ticks.sum::<f64>() * TICK, read: read.unwrap_or_default() }
}
