//! Log lines that repeat are written once per interval, with a count.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two lines of the same kind.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Lets one event per interval through.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    last: Option<Instant>,
    count: u64,
}

impl Throttle {
    /// Counts an event. Returns the number of events since the last line if a line is due.
    pub(super) fn count(&mut self) -> Option<u64> {
        self.count += 1;
        if self.last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_event_per_interval_passes_with_the_number_of_events() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.count(), Some(1));
        assert_eq!(throttle.count(), None);
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!(throttle.count(), Some(2));
        assert_eq!(throttle.count(), None);
    }
}
