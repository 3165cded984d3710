//! Limits how many calls use a connection pool. Metrics cover the wait here, not in the pool.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use tokio::{
    sync::{AcquireError, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::connect::ACQUIRE_TIMEOUT;
use crate::telemetry::instruments::{Instruments, instruments};

/// The metrics of a pool.
#[derive(Clone, Debug)]
pub(super) struct PoolMetrics {
    pub(super) pool: &'static str,
    /// Calls that wait for a connection, over all limiters of the pool.
    pub(super) waiting: Arc<AtomicI64>,
}

/// Limits how many calls use connections of a pool at once.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    room: Semaphore,
    queue: PoolMetrics,
}

impl ConnectionLimiter {
    /// Creates a limiter with `room` permits.
    pub(super) fn new(room: u32, queue: PoolMetrics) -> Self {
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { room: Semaphore::new(room), queue }
    }

    /// Acquires a permit, without a timeout.
    pub(super) async fn acquire(&self) -> ConnectionPermit<'_> {
        let measured = instruments().map(|instruments| (instruments, Instant::now()));
        let room = match self.room.try_acquire() {
            Ok(room) => Ok(room),
            Err(_) => self.wait().await,
        };
        if let Some((instruments, began)) = measured {
            instruments.connections.waited(self.queue.pool, began.elapsed());
        }
        ConnectionPermit { _used: UseTimer::new(self.queue.pool), _room: room }
    }

    async fn wait(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        let _waits = Waits::new(&self.queue);
        let mut room = pin!(self.room.acquire());
        if let Ok(room) = timeout(ACQUIRE_TIMEOUT, &mut room).await {
            return room;
        }
        // Counts a timeout, as the pool would.
        if let Some(instruments) = instruments() {
            instruments.connections.timed_out(1, self.queue.pool);
        }
        room.await
    }
}

/// A permit to use a connection.
pub(super) struct ConnectionPermit<'a> {
    _used: UseTimer,
    /// Never an error: the semaphore is never closed.
    _room: Result<SemaphorePermit<'a>, AcquireError>,
}

/// Measures how long a connection is used, until dropped.
pub(super) struct UseTimer {
    pool: &'static str,
    measured: Option<(&'static Instruments, Instant)>,
}

impl UseTimer {
    pub(super) fn new(pool: &'static str) -> Self {
        Self { pool, measured: instruments().map(|instruments| (instruments, Instant::now())) }
    }
}

impl Drop for UseTimer {
    fn drop(&mut self) {
        if let Some((instruments, since)) = self.measured {
            instruments.connections.used(self.pool, since.elapsed());
        }
    }
}

/// Counts a waiting call until dropped.
struct Waits<'a>(&'a AtomicI64);

impl<'a> Waits<'a> {
    fn new(queue: &'a PoolMetrics) -> Self {
        queue.waiting.fetch_add(1, Ordering::Relaxed);
        Self(&queue.waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_is_counted_and_waits_as_long_as_it_takes() {
        let queue = PoolMetrics { pool: "all", waiting: Arc::default() };
        let limiter = ConnectionLimiter::new(1, queue.clone());
        let waiting = || queue.waiting.load(Ordering::Relaxed);
        let first = limiter.acquire().await;
        let mut second = pin!(limiter.acquire());
        assert!(timeout(ACQUIRE_TIMEOUT * 3, &mut second).await.is_err());
        assert_eq!(waiting(), 1);
        let mut third = pin!(limiter.acquire());
        assert!(futures_util::poll!(&mut third).is_pending());
        assert_eq!(waiting(), 2);
        // The longest waiter is next, even after its timeout was counted.
        drop(first);
        let second = second.await;
        assert!(futures_util::poll!(&mut third).is_pending());
        assert_eq!(waiting(), 1);
        drop(second);
        let _room = third.await;
        assert_eq!(waiting(), 0);
        // A cancelled wait is not counted.
        {
            let mut fourth = pin!(limiter.acquire());
            assert!(futures_util::poll!(&mut fourth).is_pending());
        }
        assert_eq!(waiting(), 0);
    }
}
