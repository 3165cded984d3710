//! File descriptors: how many the process may have, and how many connections that allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Registry;

/// The largest number of connections of the admin listener. Its room is its own, so that probes
/// are answered when the other listeners are full.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;
/// Descriptors for files, logs, telemetry, JWKS and an upstream.
const RESERVED: usize = 64;
/// The least number of connections of a listener, however few descriptors there are.
const MIN_CONNECTIONS: usize = 16;

/// Raises the limit of file descriptors to what the system allows this process.
///
/// # Errors
/// Those of the system.
pub fn raise_limit() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(())
}

/// The largest number of file descriptors; none is unlimited.
pub fn limit() -> Option<usize> {
    let current = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(current).unwrap_or(usize::MAX))
}

/// The largest number of connections of each of `listeners` equal listeners: `max`, or fewer where
/// the process may not have enough descriptors for them, for `database` connections to a database,
/// and for the admin listener.
pub fn connections(limit: Option<usize>, max: usize, listeners: usize, database: usize) -> usize {
    let Some(limit) = limit else { return max };
    let reserved = RESERVED + database + Registry::descriptors(MAX_ADMIN_CONNECTIONS);
    let share = limit.saturating_sub(reserved) / listeners.max(1);
    let mut connections = max;
    if Registry::descriptors(max) > share {
        // A share is for open and for closing connections.
        connections =
            (1..share).rev().find(|max| Registry::descriptors(*max) <= share).unwrap_or(0);
    }
    connections.clamp(MIN_CONNECTIONS.min(max), max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_mean_few_connections() {
        assert_eq!(connections(None, 1024, 2, 10), 1024);
        assert_eq!(connections(Some(20_000), 1024, 2, 10), 1024);
        let few = connections(Some(1024), 1024, 2, 10);
        assert!((300..512).contains(&few), "{few}");
        let used = 2 * Registry::descriptors(few) + Registry::descriptors(MAX_ADMIN_CONNECTIONS);
        assert!(used + 10 + RESERVED <= 1024, "{used}");
        assert_eq!(connections(Some(64), 1024, 2, 10), MIN_CONNECTIONS);
        assert_eq!(connections(Some(64), 4, 2, 10), 4);
    }

    #[test]
    fn the_limit_can_be_raised() {
        raise_limit().unwrap();
        let limits = getrlimit(Resource::Nofile);
        assert_eq!(limits.current, limits.maximum);
    }
}
