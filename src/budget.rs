//! Byte budgets: the memory of messages that are received, handled or not yet sent.
//!
//! The process has one budget, and each connection a share of it. A connection may always use its
//! reserve, so small calls pass while large messages of other connections fill the process budget.

use std::sync::{
    Arc,
    atomic::{AtomicIsize, AtomicUsize, Ordering},
};

/// Bytes that a connection may use even when the process budget is exhausted.
pub const CONNECTION_RESERVE: usize = 16 * 1024;

/// The budget of the process.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: isize,
    connection_limit: usize,
    /// Bytes beyond the reserves of connections. Briefly negative when concurrent changes of a
    /// connection are counted out of order.
    used: AtomicIsize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes. One connection may use half.
    pub fn new(limit: usize) -> Arc<Self> {
        let connection_limit = (limit / 2).saturating_add(CONNECTION_RESERVE);
        let limit = isize::try_from(limit).unwrap_or(isize::MAX);
        Arc::new(Self { limit, connection_limit, used: AtomicIsize::new(0) })
    }

    /// The budget of a new connection.
    pub fn connection(self: &Arc<Self>) -> Arc<ConnectionBudget> {
        Arc::new(ConnectionBudget { process: Arc::clone(self), used: AtomicUsize::new(0) })
    }

    /// The largest number of bytes beyond the reserves of connections.
    pub fn limit(&self) -> usize {
        self.limit.try_into().unwrap_or_default()
    }

    /// Bytes in use beyond the reserves of connections.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed).try_into().unwrap_or_default()
    }
}

/// The budget of one connection.
#[derive(Debug)]
pub struct ConnectionBudget {
    process: Arc<MemoryBudget>,
    used: AtomicUsize,
}

impl ConnectionBudget {
    /// Acquires `bytes`; `None` if the connection or the process has no room.
    pub fn try_acquire(self: &Arc<Self>, bytes: usize) -> Option<BytesPermit> {
        let mut permit = BytesPermit { connection: Arc::clone(self), bytes: 0 };
        permit.try_grow(bytes).then_some(permit)
    }

    fn try_add(&self, bytes: usize) -> bool {
        // Only the bytes beyond the reserve count in the process budget. Each change of `used`
        // moves the process budget by the difference, so both agree whatever the interleaving.
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let shared = beyond_reserve(before + bytes) - beyond_reserve(before);
        let total = self.process.used.fetch_add(shared, Ordering::Relaxed) + shared;
        let fits = before + bytes <= self.process.connection_limit
            && (shared == 0 || total <= self.process.limit);
        if !fits {
            self.subtract(bytes);
        }
        fits
    }

    fn subtract(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        let shared = beyond_reserve(before) - beyond_reserve(before - bytes);
        self.process.used.fetch_sub(shared, Ordering::Relaxed);
    }
}

fn beyond_reserve(bytes: usize) -> isize {
    bytes.saturating_sub(CONNECTION_RESERVE).cast_signed()
}

/// Bytes of a connection's budget, released on drop.
#[derive(Debug)]
pub struct BytesPermit {
    connection: Arc<ConnectionBudget>,
    bytes: usize,
}

impl BytesPermit {
    /// Acquires `bytes` more. Returns whether there was room.
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        let fits = self.connection.try_add(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Releases everything beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.connection.subtract(surplus);
        self.bytes -= surplus;
    }

    /// Holds exactly `bytes` from now on. Returns whether there was room.
    pub fn try_resize(&mut self, bytes: usize) -> bool {
        self.shrink_to(bytes);
        self.try_grow(bytes - self.bytes)
    }
}

impl Drop for BytesPermit {
    fn drop(&mut self) {
        self.connection.subtract(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_connection_keeps_its_reserve_when_the_process_budget_is_exhausted() {
        let process = MemoryBudget::new(20 * MIB);
        let [greedy, second, small] = [(); 3].map(|()| process.connection());
        let first = greedy.try_acquire(10 * MIB).unwrap();
        assert!(greedy.try_acquire(MIB).is_none(), "over the budget of the connection");
        let rest = second.try_acquire(10 * MIB).unwrap();
        assert!(second.try_acquire(MIB).is_none(), "over the budget of the process");
        assert!(small.try_acquire(CONNECTION_RESERVE + MIB).is_none());
        let reserved = small.try_acquire(CONNECTION_RESERVE).unwrap();
        assert!(small.try_acquire(MIB).is_none());
        drop((first, rest, reserved));
        assert_eq!(process.used(), 0);
    }

    #[test]
    fn permits_grow_shrink_and_give_back() {
        let process = MemoryBudget::new(MIB);
        let connection = process.connection();
        let mut permit = connection.try_acquire(CONNECTION_RESERVE).unwrap();
        assert_eq!(process.used(), 0);
        assert!(permit.try_grow(1000));
        assert!(!permit.try_grow(MIB));
        assert_eq!(process.used(), 1000);
        permit.shrink_to(CONNECTION_RESERVE + 400);
        assert_eq!(process.used(), 400);
        permit.shrink_to(CONNECTION_RESERVE + 500);
        assert_eq!(process.used(), 400);
        drop(permit);
        assert_eq!(process.used(), 0);
    }

    #[test]
    fn concurrent_permits_leave_nothing_behind() {
        let process = MemoryBudget::new(MIB);
        let connection = process.connection();
        std::thread::scope(|threads| {
            for size in 1..5 {
                let connection = &connection;
                threads.spawn(move || {
                    for _ in 0..10_000 {
                        drop(connection.try_acquire(size * 5000));
                    }
                });
            }
        });
        assert_eq!(process.used(), 0);
        assert_eq!(connection.used.load(Ordering::Relaxed), 0);
    }
}
