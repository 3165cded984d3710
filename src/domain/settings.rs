//! The stored settings of legacy calls.

use super::{error::Error, hash::Recipe};
use crate::{networks::Networks, retirement::Retirement};

/// The settings of legacy calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether legacy calls are answered at all.
    pub allow_api: bool,
    /// Whether legacy calls may use GET.
    pub allow_get_api: bool,
    /// The accepted hash recipes. Empty only if this version knows none of the stored recipes.
    pub hash_recipes: Vec<Recipe>,
    /// The networks from which legacy calls are accepted; empty for all.
    pub allowed_networks: Networks,
    /// The limits on wrong hashes.
    pub hash_limits: HashLimits,
    /// How and when the legacy call ends.
    pub retirement: Retirement,
}

/// The limits on wrong hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashLimits {
    /// The maximum number of wrong hashes per minute from an IPv4 address or an IPv6 /64 network: 2 to
    /// [`Self::MAX_PER_MINUTE`], or 0 for no limit.
    pub per_address: u32,
    /// The maximum number of wrong hashes per minute with a username, as above.
    pub per_username: u32,
    /// The seconds for which an address or a username is blocked at its limit:
    /// [`Self::MIN_BLOCK_SECONDS`] to [`Self::MAX_BLOCK_SECONDS`].
    pub block_seconds: u32,
}

impl HashLimits {
    /// The largest limit per minute.
    pub const MAX_PER_MINUTE: u32 = 1_000_000;
    /// The shortest block: with a shorter one, a minute could have more wrong hashes than the limit.
    pub const MIN_BLOCK_SECONDS: u32 = 60;
    /// The longest block: a day.
    pub const MAX_BLOCK_SECONDS: u32 = 86_400;

    /// Whether a number is a limit per minute.
    pub fn is_limit(limit: u32) -> bool {
        limit == 0 || (2..=Self::MAX_PER_MINUTE).contains(&limit)
    }

    /// Whether a block may have this number of seconds.
    pub fn is_block_seconds(seconds: u32) -> bool {
        (Self::MIN_BLOCK_SECONDS..=Self::MAX_BLOCK_SECONDS).contains(&seconds)
    }
}

impl Default for HashLimits {
    fn default() -> Self {
        Self { per_address: 600, per_username: 600, block_seconds: 300 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allow_api: true,
            allow_get_api: false,
            hash_recipes: vec![Recipe::UsernameUserId],
            allowed_networks: Networks::default(),
            hash_limits: HashLimits::default(),
            retirement: Retirement::default(),
        }
    }
}

impl Settings {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the sunset is before the deprecation, or a limit on wrong hashes is out
    /// of its range.
    pub fn check(&self) -> Result<(), Error> {
        let HashLimits { per_address, per_username, block_seconds } = self.hash_limits;
        for (field, limit) in [
            ("settings.failed_hashes_per_address", per_address),
            ("settings.failed_hashes_per_username", per_username),
        ] {
            if !HashLimits::is_limit(limit) {
                let problem = format!("must be 0 or 2 to {}", HashLimits::MAX_PER_MINUTE);
                return Err(Error::InvalidRequest { field, problem });
            }
        }
        if !HashLimits::is_block_seconds(block_seconds) {
            let (min, max) = (HashLimits::MIN_BLOCK_SECONDS, HashLimits::MAX_BLOCK_SECONDS);
            let problem = format!("must be {min} to {max}");
            return Err(Error::InvalidRequest { field: "settings.block_seconds", problem });
        }
        if self.retirement.ends_too_early() {
            let problem = "must not be before deprecation (RFC 9745)".to_owned();
            return Err(Error::InvalidRequest { field: "settings.sunset", problem });
        }
        Ok(())
    }
}
