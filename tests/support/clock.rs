//! A clock that a test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use m4_user_details::domain::clock::{Clock, SystemClock};

/// A clock that stands still until the test moves it. Its clones show the same time.
#[derive(Clone, Debug)]
pub struct TestClock {
    micros: Arc<AtomicI64>,
    was_set: Arc<AtomicBool>,
    sweeps: Arc<AtomicUsize>,
}

impl TestClock {
    /// A clock that shows the present time, in whole microseconds.
    pub fn at_present() -> Self {
        let micros = Arc::new(AtomicI64::new(SystemClock.now().timestamp_micros()));
        Self { micros, was_set: Arc::default(), sweeps: Arc::default() }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: TimeDelta) {
        self.micros.fetch_add(by.num_microseconds().unwrap(), Ordering::SeqCst);
    }

    /// Sets whether the clock reports that it was just set to another time.
    pub fn was_set(&self, was_set: bool) {
        self.was_set.store(was_set, Ordering::SeqCst);
    }

    /// The number of begun sweeps: each sweep first asks whether the clock was set.
    pub fn sweeps(&self) -> usize {
        self.sweeps.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros.load(Ordering::SeqCst)).unwrap()
    }

    fn steady_for(&self) -> Duration {
        self.sweeps.fetch_add(1, Ordering::SeqCst);
        if self.was_set.load(Ordering::SeqCst) { Duration::ZERO } else { Duration::MAX }
    }
}
