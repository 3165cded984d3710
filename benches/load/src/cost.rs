//! Resources of a run, and of a call.

use std::ops::{AddAssign, Sub};

use serde::Serialize;

/// Resources used so far, or between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Wall-clock time, in seconds.
    pub(crate) time: f64,
    pub(crate) client: Process,
    pub(crate) service: Process,
    pub(crate) server: Process,
    pub(crate) transactions: f64,
    pub(crate) log_bytes: f64,
}

/// Resources used by processes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// CPU seconds.
    pub(crate) processor: f64,
    /// Bytes read from files, in the page cache or on disk.
    pub(crate) read: f64,
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
    /// The average cost per call.
    pub(crate) fn of(used: Used, calls: f64) -> Self {
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
