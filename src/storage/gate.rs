//! Calls that need a connection wait for it at a gate, and not in the pool, which would not tell of it.

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

use super::connect::PATIENCE;
use crate::telemetry::instruments::{Instruments, instruments};

/// A pool as those see it who wait for its connections.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    /// The name of the pool.
    pub(super) pool: &'static str,
    /// How many wait, at whichever gate.
    pub(super) waiting: Arc<AtomicI64>,
}

/// Lets so many calls at once use connections of a pool.
#[derive(Debug)]
pub(super) struct Gate {
    room: Semaphore,
    queue: Queue,
}

impl Gate {
    /// A gate for so many.
    pub(super) fn new(room: u32, queue: Queue) -> Self {
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { room: Semaphore::new(room), queue }
    }

    /// Waits for a connection, as long as the caller does.
    pub(super) async fn pass(&self) -> Passed<'_> {
        let measured = instruments().map(|instruments| (instruments, Instant::now()));
        let room = match self.room.try_acquire() {
            Ok(room) => Ok(room),
            Err(_) => self.wait().await,
        };
        if let Some((instruments, began)) = measured {
            instruments.waited_for_connection(self.queue.pool, began.elapsed());
        }
        Passed { _used: Used::new(self.queue.pool), _room: room }
    }

    async fn wait(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        let _waits = Waits::new(&self.queue);
        let mut room = pin!(self.room.acquire());
        if let Ok(room) = timeout(PATIENCE, &mut room).await {
            return room;
        }
        // As the pool would say.
        if let Some(instruments) = instruments() {
            instruments.connection_timeouts(1, self.queue.pool);
        }
        room.await
    }
}

/// One that may use a connection until this is dropped.
pub(super) struct Passed<'a> {
    _used: Used,
    /// No gate is ever closed.
    _room: Result<SemaphorePermit<'a>, AcquireError>,
}

/// A connection that is used until this is dropped.
pub(super) struct Used {
    pool: &'static str,
    measured: Option<(&'static Instruments, Instant)>,
}

impl Used {
    /// One of a pool.
    pub(super) fn new(pool: &'static str) -> Self {
        Self { pool, measured: instruments().map(|instruments| (instruments, Instant::now())) }
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        if let Some((instruments, since)) = self.measured {
            instruments.connection_used(self.pool, since.elapsed());
        }
    }
}

/// One that waits, until this is dropped.
struct Waits<'a>(&'a AtomicI64);

impl<'a> Waits<'a> {
    fn new(queue: &'a Queue) -> Self {
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
        let queue = Queue { pool: "all", waiting: Arc::default() };
        let gate = Gate::new(1, queue.clone());
        let waiting = || queue.waiting.load(Ordering::Relaxed);
        let first = gate.pass().await;
        let mut second = pin!(gate.pass());
        assert!(timeout(PATIENCE * 3, &mut second).await.is_err());
        assert_eq!(waiting(), 1);
        let mut third = pin!(gate.pass());
        assert!(futures_util::poll!(&mut third).is_pending());
        assert_eq!(waiting(), 2);
        // The one that has waited longest is the next, also where it was out of patience.
        drop(first);
        let second = second.await;
        assert!(futures_util::poll!(&mut third).is_pending());
        assert_eq!(waiting(), 1);
        drop(second);
        let _room = third.await;
        assert_eq!(waiting(), 0);
        // One that does not wait any more is not counted.
        {
            let mut fourth = pin!(gate.pass());
            assert!(futures_util::poll!(&mut fourth).is_pending());
        }
        assert_eq!(waiting(), 0);
    }
}
