//! Limits the wrong hashes of legacy calls, per address and per username.
//!
//! At a limit, the address or the username is blocked: at once on this replica, and by the stored block
//! within two seconds on the others. Each replica counts by itself. The limit per username bounds
//! guesses of one username only: the hash of another one tells as much about the secret key.

use std::{
    collections::HashMap,
    mem::take,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;

use super::{
    error::Error,
    failure_rate::{Failure, FailureRate},
    key_ring::Matched,
    known_clients::KnownClients,
    legacy_block::{Blocks, Effect, LegacyBlock, LegacyBlockStore, Target},
    settings::HashLimits,
};
use crate::{
    credentials::LegacyCredentials, networks::client_network, telemetry::instruments::instruments,
};

/// Maximum number of automatic blocks that wait to be stored.
const MAX_WAITING: usize = 1000;
/// By then, every replica has read a stored block.
const FOLLOW_TIME: TimeDelta = TimeDelta::seconds(2);

/// Counts wrong hashes, and blocks addresses and usernames.
#[derive(Debug, Default)]
pub struct HashGuard {
    networks: FailureRate,
    usernames: FailureRate,
    /// Blocks to store, by target.
    waiting: Mutex<HashMap<Target, LegacyBlock>>,
    /// Notified of a block that waits to be stored.
    pub has_waiting: Notify,
}

/// The blocks of a call.
pub struct Standing<'a> {
    known: &'a KnownClients,
    network: String,
    on_network: Option<Effect>,
    on_username: Option<Effect>,
    now: DateTime<Utc>,
}

impl HashGuard {
    /// The blocks of a call.
    ///
    /// # Errors
    /// [`Error::AddressBlocked`] if no hash from the address counts.
    pub fn standing<'a>(
        &self,
        blocks: &Blocks,
        known: &'a KnownClients,
        credentials: &LegacyCredentials,
        now: DateTime<Utc>,
    ) -> Result<Option<Standing<'a>>, Error> {
        if blocks.is_empty() && self.networks.is_empty() && self.usernames.is_empty() {
            return Ok(None);
        }
        let username = &credentials.username;
        let network = client_network(&credentials.address);
        let own = |end| Effect { spares_known: true, end: Some(end) };
        let on_network = blocks.on_network(&network, now);
        let on_network = on_network.or_else(|| self.networks.block_end(&network, now).map(own));
        let on_username = blocks.on_username(username, now);
        let on_username = on_username.or_else(|| self.usernames.block_end(username, now).map(own));
        let standing = Standing { known, network, on_network, on_username, now };
        match on_network {
            Some(effect) if !effect.spares_known || !known.has_network(&standing.network) => {
                Err(standing.address_blocked(effect))
            }
            _ => Ok(Some(standing)),
        }
    }

    /// Counts a wrong hash, or a hash with a blocked username: callers see no difference. Counts neither
    /// for a blocked address nor for a blocked username.
    ///
    /// # Errors
    /// [`Error::AddressBlocked`] if other calls have reached the limit meanwhile.
    pub fn failed(
        &self,
        limits: &HashLimits,
        credentials: &LegacyCredentials,
        standing: Option<&Standing<'_>>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let block = TimeDelta::seconds(limits.block_seconds.into());
        let (on_network, on_username) =
            standing.map_or((None, None), |standing| (standing.on_network, standing.on_username));
        if on_network.is_none() {
            let network = client_network(&credentials.address);
            match self.networks.add(&network, limits.per_address, block, now) {
                Failure::Counted => {}
                Failure::Blocked(end) => {
                    let retry_after = Some((end - now).to_std().unwrap_or_default());
                    return Err(Error::AddressBlocked { retry_after });
                }
                Failure::Blocks(end) => self.block(Target::Network(network), now, end),
            }
        }
        if on_username.is_none()
            && let Some(target) = Target::of_username(&credentials.username)
            && let Failure::Blocks(end) =
                self.usernames.add(target.value(), limits.per_username, block, now)
        {
            self.block(target, now, end);
        }
        Ok(())
    }

    /// Stores the waiting blocks, and returns the stored blocks. After a failure, keeps them.
    ///
    /// # Errors
    /// The errors of [`LegacyBlockStore::store_automatic_blocks`].
    pub async fn store(
        &self,
        store: &dyn LegacyBlockStore,
        now: DateTime<Utc>,
    ) -> Result<Vec<LegacyBlock>, Error> {
        for rate in [&self.networks, &self.usernames] {
            rate.tidy(now);
        }
        let blocks = take(&mut *self.waiting()).into_values();
        let mut blocks: Vec<_> =
            blocks.filter(|block| block.expire_time.is_none_or(|end| end > now)).collect();
        if blocks.is_empty() {
            return Ok(blocks);
        }
        // In the same order in every replica, so that their transactions do not wait in a circle.
        blocks.sort_by_cached_key(LegacyBlock::id);
        let stored = store.store_automatic_blocks(blocks.clone(), now).await;
        match &stored {
            Ok(stored) if stored.len() < blocks.len() => {
                let count = blocks.len() - stored.len();
                tracing::warn!(count, "too many blocks: this replica holds some alone");
            }
            Ok(_) => {}
            Err(_) => {
                let mut waiting = self.waiting();
                for block in blocks {
                    waiting.entry(block.target.clone()).or_insert(block);
                }
            }
        }
        stored
    }

    /// Ends this replica's own block of a target.
    pub fn lift(&self, target: &Target, now: DateTime<Utc>) {
        self.waiting().remove(target);
        self.rate(target).hand_over(target.value(), now);
    }

    /// Ends this replica's own blocks soon: the stored ones take over, which can be lifted.
    pub fn hand_over(&self, stored: Vec<LegacyBlock>, now: DateTime<Utc>) {
        for LegacyBlock { target, .. } in stored {
            self.rate(&target).hand_over(target.value(), now + FOLLOW_TIME);
        }
    }

    fn rate(&self, target: &Target) -> &FailureRate {
        match target {
            Target::Network(_) => &self.networks,
            Target::Username(_) => &self.usernames,
        }
    }

    fn block(&self, target: Target, now: DateTime<Utc>, end: DateTime<Utc>) {
        let kind = target.kind();
        // A username is in no log line.
        let address = matches!(target, Target::Network(_)).then(|| target.shown());
        let seconds = (end - now).num_seconds();
        tracing::warn!(
            kind,
            client.address = address,
            seconds,
            "legacy calls are blocked after too many wrong hashes"
        );
        if let Some(instruments) = instruments() {
            instruments.legacy_blocks(1, kind);
        }
        let mut waiting = self.waiting();
        if waiting.len() < MAX_WAITING {
            let block = LegacyBlock {
                target: target.clone(),
                is_automatic: true,
                identity: String::new(),
                create_time: now,
                expire_time: Some(end),
            };
            waiting.insert(target, block);
        }
        drop(waiting);
        self.has_waiting.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Target, LegacyBlock>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing<'_> {
    /// Whether nothing is blocked.
    pub fn is_free(&self) -> bool {
        self.on_network.is_none() && self.on_username.is_none()
    }

    /// Lets a call with a right hash in, if no block refuses it.
    ///
    /// # Errors
    /// [`Error::AddressBlocked`], [`Error::UsernameBlocked`]; without a right hash [`Error::IncorrectHash`].
    pub fn admit(&self, matched: Option<Matched>) -> Result<Matched, Error> {
        let is_spared = |effect: Effect| {
            let key = matched.as_ref().map(|matched| matched.key.name());
            effect.spares_known && key.is_some_and(|key| self.known.has(key, &self.network))
        };
        match (self.on_network, self.on_username) {
            (Some(effect), _) if !is_spared(effect) => Err(self.address_blocked(effect)),
            (_, Some(effect)) if matched.is_some() && !is_spared(effect) => {
                Err(Error::UsernameBlocked)
            }
            _ => matched.ok_or(Error::IncorrectHash),
        }
    }

    fn address_blocked(&self, effect: Effect) -> Error {
        Error::AddressBlocked { retry_after: effect.remaining(self.now) }
    }
}

#[cfg(test)]
mod tests;
