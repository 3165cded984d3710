//! A cache of stored values. A change on another replica takes effect within two seconds.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use super::error::Error;

/// The default and maximum TTL.
const TTL: Duration = Duration::from_secs(1);

/// The TTL of a failed read: long enough for all concurrent waiters.
const FAILURE_TTL: Duration = Duration::from_millis(5);

/// The last value and the time of its read. A failed read is cached, too.
#[derive(Debug)]
pub struct TtlCache<T> {
    age: Duration,
    last: Mutex<Option<(Instant, Option<T>)>>,
}

impl<T> Default for TtlCache<T> {
    fn default() -> Self {
        Self::within(TTL)
    }
}

impl<T> TtlCache<T> {
    /// A cache with a TTL of at most one second. Zero disables the cache.
    pub fn within(age: Duration) -> Self {
        Self { age: age.min(TTL), last: Mutex::new(None) }
    }
}

impl<T: Clone> TtlCache<T> {
    /// The cached value. After the TTL, one caller reads while the others wait.
    ///
    /// # Errors
    /// The errors of `read`, and [`Error::Unavailable`] right after a failed read.
    pub async fn get(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if self.age.is_zero() {
            return read.await;
        }
        let mut last = self.last.lock().await;
        if let Some((at, known)) = &*last
            && at.elapsed() < if known.is_some() { self.age } else { FAILURE_TTL }
        {
            let unavailable = || Error::Unavailable("a recent read failed".into());
            return known.clone().ok_or_else(unavailable);
        }
        let known = read.await;
        *last = Some((Instant::now(), known.as_ref().ok().cloned()));
        known
    }

    /// Invalidates the cached value.
    pub async fn forget(&self) {
        *self.last.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_believed_as_long_as_is_said_and_a_second_at_most() {
        for (age, reads) in [(0, 4), (300, 2), (1000, 1), (60_000, 1)] {
            let fresh = TtlCache::within(Duration::from_millis(age));
            let number = AtomicU32::new(0);
            let read = async || {
                fresh.get(async { Ok(number.fetch_add(1, Ordering::Relaxed)) }).await.unwrap()
            };
            for _ in 0..4 {
                read().await;
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            assert_eq!(number.load(Ordering::Relaxed), reads, "{age}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(read().await, reads, "{age}");
        }
    }
}
