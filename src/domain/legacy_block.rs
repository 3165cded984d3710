//! Blocks: addresses and usernames whose legacy calls are refused.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::{
    account::Username, administration::Administrator, call_context::CallContext, error::Error,
};
use crate::networks::client_network;

/// Maximum number of stored blocks that operators made, and of stored automatic blocks.
pub const MAX_BLOCKS: u64 = 1000;

/// Stands for the address of clients whose address is unknown.
const UNKNOWN: &str = "unknown";

/// The target of a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An IPv4 address, or a /64 network of IPv6 addresses; empty for clients whose address is unknown.
    Network(String),
    /// A username: the parameter `u`.
    Username(String),
}

impl Target {
    /// The target of an IP address, or of `unknown`; `None` for another text.
    pub fn of_address(address: &str) -> Option<Self> {
        if address == UNKNOWN {
            return Some(Self::Network(String::new()));
        }
        // The network of an IPv6 address is written like `2001:db8::/64`.
        let (address, is_network) =
            address.strip_suffix("/64").map_or((address, false), |address| (address, true));
        let address = address.parse::<IpAddr>().ok()?.to_canonical();
        let is_target = !is_network || address.is_ipv6();
        is_target.then(|| Self::Network(client_network(&address.to_string())))
    }

    /// The target of a username; `None` if no account can have it.
    pub fn of_username(username: &str) -> Option<Self> {
        Username::parse(username).map(|username| Self::Username(username.as_str().to_owned()))
    }

    /// The target of a stored kind and value; `None` for a kind of a newer version.
    pub fn from_parts(kind: &str, value: String) -> Option<Self> {
        match kind {
            "address" => Some(Self::Network(value)),
            "username" => Some(Self::Username(value)),
            _ => None,
        }
    }

    /// `address` or `username`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Network(_) => "address",
            Self::Username(_) => "username",
        }
    }

    /// The address, network or username.
    pub fn value(&self) -> &str {
        let (Self::Network(value) | Self::Username(value)) = self;
        value
    }

    /// The address, network or username, for people; `unknown` for an unknown address.
    pub fn shown(&self) -> &str {
        if self.value().is_empty() { UNKNOWN } else { self.value() }
    }
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyBlock {
    /// What it refuses.
    pub target: Target,
    /// Whether the limit on failed hashes made it. It spares known clients. A block by an operator spares
    /// nobody.
    pub is_automatic: bool,
    /// Who made it, as in [`Administrator::identity`]; empty for automatic blocks.
    pub identity: String,
    /// When it was made.
    pub create_time: DateTime<Utc>,
    /// When it ends; `None` for never.
    pub expire_time: Option<DateTime<Utc>>,
}

impl LegacyBlock {
    /// The id of the block: a target has at most one automatic block, and one by an operator.
    pub fn id(&self) -> String {
        let origin = if self.is_automatic { "automatic" } else { "operator" };
        let mut digest = Sha256::new();
        for part in [origin, self.target.kind(), self.target.value()] {
            digest.update(part);
            digest.update([0]);
        }
        hex::encode(digest.finalize())
    }
}

/// The effect of blocks on a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whether known clients are spared.
    pub spares_known: bool,
    /// When the block ends; `None` for never.
    pub end: Option<DateTime<Utc>>,
}

impl Effect {
    /// The time until the block ends; `None` for never.
    pub fn remaining(&self, now: DateTime<Utc>) -> Option<Duration> {
        self.end.map(|end| (end - now).to_std().unwrap_or_default())
    }

    /// Both effects together.
    fn and(self, other: Self) -> Self {
        let end = self.end.zip(other.end).map(|(one, other)| one.max(other));
        Self { spares_known: self.spares_known && other.spares_known, end }
    }
}

/// The stored blocks of a moment.
#[derive(Debug, Default)]
pub struct Blocks {
    networks: HashMap<String, Effect>,
    usernames: HashMap<String, Effect>,
}

impl Blocks {
    /// Collects blocks.
    pub fn of(blocks: Vec<LegacyBlock>) -> Self {
        let mut all = Self::default();
        for block in blocks {
            let effect = Effect { spares_known: block.is_automatic, end: block.expire_time };
            let add = |effects: &mut HashMap<String, Effect>, value| {
                let effects = effects.entry(value);
                effects.and_modify(|known| *known = known.and(effect)).or_insert(effect);
            };
            match block.target {
                Target::Network(network) => {
                    // A client can hide its address: by a header that contradicts another one.
                    if !block.is_automatic {
                        add(&mut all.networks, String::new());
                    }
                    add(&mut all.networks, network);
                }
                Target::Username(username) => add(&mut all.usernames, username),
            }
        }
        all
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.usernames.is_empty()
    }

    /// The effect on calls from a network, in the form of [`Target::Network`].
    pub fn on_network(&self, network: &str, now: DateTime<Utc>) -> Option<Effect> {
        active(self.networks.get(network), now)
    }

    /// The effect on calls with a username.
    pub fn on_username(&self, username: &str, now: DateTime<Utc>) -> Option<Effect> {
        active(self.usernames.get(username), now)
    }
}

fn active(effect: Option<&Effect>, now: DateTime<Utc>) -> Option<Effect> {
    effect.copied().filter(|effect| effect.end.is_none_or(|end| end > now))
}

/// The stored blocks. Each change by an operator is in the administration log.
#[async_trait]
pub trait LegacyBlockStore: Send + Sync {
    /// The blocks that are active at a time, oldest first: at most `limit` behind a creation time (in
    /// microseconds) and id.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn legacy_blocks(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
        after: Option<(i64, String)>,
        limit: u64,
    ) -> Result<Vec<LegacyBlock>, Error>;

    /// The blocks that are active at a time, those by operators first: at most twice [`MAX_BLOCKS`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn active_legacy_blocks(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
    ) -> Result<Vec<LegacyBlock>, Error>;

    /// Stores automatic blocks, all or none. Returns the stored blocks: at most [`MAX_BLOCKS`] at
    /// a time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn store_automatic_blocks(
        &self,
        blocks: Vec<LegacyBlock>,
        now: DateTime<Utc>,
    ) -> Result<Vec<LegacyBlock>, Error>;

    /// Stores the block of an operator, in place of an earlier one.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] over [`MAX_BLOCKS`], and [`Error::Unavailable`] or
    /// [`Error::Internal`] of the storage.
    async fn add_legacy_block(
        &self,
        call: &CallContext,
        by: &Administrator,
        block: LegacyBlock,
    ) -> Result<(), Error>;

    /// Deletes the blocks of a target. Returns whether one was active.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn lift_legacy_blocks(
        &self,
        call: &CallContext,
        by: (&Administrator, DateTime<Utc>),
        target: &Target,
    ) -> Result<bool, Error>;
}
