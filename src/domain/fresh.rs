//! What is read from the storage at most once a second: a change on another replica is effective within two.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use super::error::Error;

/// How long what was read is believed.
const AGE: Duration = Duration::from_secs(1);

/// How long it is believed that it cannot be read: long enough for all who wait for it at the same time.
const FAILURE_AGE: Duration = Duration::from_millis(50);

/// What was read last, and when; nothing where it could not be read.
#[derive(Debug)]
pub struct Fresh<T>(Mutex<Option<(Instant, Option<T>)>>);

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Fresh<T> {
    /// What was read at most a second ago; else what `read` reads now, while others wait for it.
    ///
    /// # Errors
    /// Those of `read`, and [`Error::Unavailable`] right after it failed.
    pub async fn get(&self, read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut last = self.0.lock().await;
        if let Some((at, known)) = &*last
            && at.elapsed() < if known.is_some() { AGE } else { FAILURE_AGE }
        {
            let unavailable = || Error::Unavailable("it could not be read just now".into());
            return known.clone().ok_or_else(unavailable);
        }
        let known = read.await;
        *last = Some((Instant::now(), known.as_ref().ok().cloned()));
        known
    }

    /// Has it read anew when it is needed next.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }
}
