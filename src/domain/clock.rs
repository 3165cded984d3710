//! The time, injected so that tests can set it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The time now, in UTC.
    fn now(&self) -> DateTime<Utc>;

    /// How long ago the clock last made a large step; zero while a step is pending, and
    /// `Duration::MAX` if never.
    fn steady_for(&self) -> Duration;
}

/// The machine's clock, unfiltered.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn steady_for(&self) -> Duration {
        Duration::MAX
    }
}

/// The largest step of the machine's clock that takes effect at once.
const MAX_STEP: TimeDelta = TimeDelta::minutes(1);
/// How long a larger step must last before it takes effect.
const CONFIRMATION: Duration = Duration::from_secs(60 * 60);

/// The machine's clock without large steps. Setting the clock to another day by mistake, and back,
/// has no effect.
#[derive(Debug)]
pub struct SteadyClock(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The time at which [`uptime`] was 0.
    origin: DateTime<Utc>,
    /// A pending step: the origin by the machine's clock, and the uptime when the step appeared.
    step: Option<(DateTime<Utc>, Duration)>,
    /// The uptime at which the last large step took effect.
    followed_at: Option<Duration>,
}

impl SteadyClock {
    /// A clock that starts at the machine's time.
    pub fn new() -> Self {
        Self(Mutex::new(State::new(SystemClock.now(), uptime())))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SteadyClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> DateTime<Utc> {
        self.state().now(SystemClock.now(), uptime())
    }

    fn steady_for(&self) -> Duration {
        self.state().steady_for(uptime())
    }
}

impl State {
    fn new(machine: DateTime<Utc>, uptime: Duration) -> Self {
        Self { origin: machine - uptime, step: None, followed_at: None }
    }

    fn steady_for(&self, uptime: Duration) -> Duration {
        match (self.step, self.followed_at) {
            (Some(_), _) => Duration::ZERO,
            (None, Some(at)) => uptime.saturating_sub(at),
            (None, None) => Duration::MAX,
        }
    }

    fn now(&mut self, machine: DateTime<Utc>, uptime: Duration) -> DateTime<Utc> {
        let origin = machine - uptime;
        if is_near(origin, self.origin) {
            (self.origin, self.step) = (origin, None);
            return machine;
        }
        let seconds = (origin - self.origin).num_seconds();
        match self.step {
            Some((same, since)) if is_near(origin, same) => {
                if uptime.saturating_sub(since) >= CONFIRMATION {
                    tracing::warn!(seconds, "the new time of the machine is used");
                    *self = Self { origin, step: None, followed_at: Some(uptime) };
                    return machine;
                }
            }
            _ => {
                tracing::error!(
                    seconds,
                    "the machine's clock was set; the new time is used if it stays consistent for an hour"
                );
                self.step = Some((origin, uptime));
            }
        }
        self.origin + uptime
    }
}

fn is_near(one: DateTime<Utc>, other: DateTime<Utc>) -> bool {
    (one - other).abs() <= MAX_STEP
}

/// The time since boot, including suspend. Setting the clock has no effect.
#[cfg(target_os = "linux")]
fn uptime() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// The time since the first call. Setting the clock has no effect.
#[cfg(not(target_os = "linux"))]
fn uptime() -> Duration {
    use std::{sync::LazyLock, time::Instant};
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGIN.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: TimeDelta = TimeDelta::days(1);

    fn noon() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn a_step_of_a_day_and_back_changes_nothing() {
        for step in [DAY, -DAY] {
            let mut state = State::new(noon(), MINUTE);
            assert_eq!(state.now(noon() + step, MINUTE), noon());
            assert_eq!(state.steady_for(MINUTE), Duration::ZERO);
            let later = noon() + 30 * MINUTE;
            assert_eq!(state.now(later + step, 31 * MINUTE), later);
            assert_eq!(state.now(later, 31 * MINUTE), later);
            assert_eq!(state.steady_for(31 * MINUTE), Duration::MAX);
            // It is a new step.
            assert_eq!(state.now(later + step, 31 * MINUTE), later);
            let much_later = noon() + 80 * MINUTE;
            assert_eq!(state.now(much_later + step, 81 * MINUTE), much_later);
            assert_eq!(state.followed_at, None);
        }
    }

    #[test]
    fn a_step_that_lasts_for_an_hour_is_followed() {
        for step in [DAY, -DAY] {
            let mut state = State::new(noon(), MINUTE);
            assert_eq!(state.now(noon() + step, MINUTE), noon());
            let later = noon() + 60 * MINUTE;
            assert_eq!(state.now(later + step, 61 * MINUTE), later + step);
            assert_eq!(state.followed_at, Some(61 * MINUTE));
            let machine = later + step + MINUTE;
            assert_eq!(state.now(machine, 62 * MINUTE), machine);
        }
    }

    #[test]
    fn small_steps_are_followed_at_once() {
        let mut state = State::new(noon(), MINUTE);
        for seconds in [50, 100, 60] {
            let machine = noon() + TimeDelta::seconds(seconds);
            assert_eq!(state.now(machine, MINUTE), machine);
        }
        assert_eq!(state.followed_at, None);
    }

    #[test]
    fn it_shows_the_time_of_the_machine() {
        let clock = SteadyClock::new();
        let before = SystemClock.now();
        let now = clock.now();
        assert!(before <= now && now <= SystemClock.now());
        assert_eq!(clock.steady_for(), Duration::MAX);
    }
}
