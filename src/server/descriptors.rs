//! The limit of file descriptors, and the number of connections that it allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::registry::Registry;

/// The largest number of connections of the admin listener. A separate limit, so that probes are
/// answered when the other listeners are full.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;
/// Descriptors for files, logs, telemetry, JWKS and an upstream.
const RESERVED: usize = 64;
/// The minimum number of connections of a listener, even without enough descriptors.
const MIN_CONNECTIONS: usize = 16;

/// Raises the limit of file descriptors to what the system allows this process.
///
/// # Errors
/// The system's errors.
pub fn raise_limit() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(())
}

/// The largest number of file descriptors; `None` is unlimited.
pub fn limit() -> Option<usize> {
    let current = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(current).unwrap_or(usize::MAX))
}

/// The largest number of connections per listener: `max`, or fewer if descriptors are scarce.
/// `listeners` equal listeners share the descriptors that the admin listener and `database`
/// connections to a database leave.
pub fn connections(limit: Option<usize>, max: usize, listeners: usize, database: usize) -> usize {
    let Some(limit) = limit else { return max };
    let reserved = RESERVED + database + Registry::descriptors(MAX_ADMIN_CONNECTIONS);
    let share = limit.saturating_sub(reserved) / listeners.max(1);
    let mut connections = max;
    if Registry::descriptors(max) > share {
        // A share includes open and closing connections.
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
