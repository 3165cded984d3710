//! Limits the wrong hashes of legacy calls, per address and per username.
//!
//! At a limit, the address or the username is blocked: at once on this replica, and by the stored block
//! within two seconds on the others. Each replica counts by itself.

use std::{
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
    waiting: Mutex<Vec<LegacyBlock>>,
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

    /// Counts a wrong hash, or a hash with a blocked username: callers see no difference.
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
        let network = client_network(&credentials.address);
        match self.networks.add(&network, limits.per_address, block, now) {
            Failure::Counted => {}
            Failure::Blocked(end) => {
                let retry_after = (end - now).to_std().unwrap_or_default();
                return Err(Error::AddressBlocked { retry_after });
            }
            Failure::Blocks(end) => self.block(Target::Network(network), now, end),
        }
        if standing.is_some_and(|standing| standing.on_username.is_some()) {
            return Ok(());
        }
        let Some(target) = Target::of_username(&credentials.username) else { return Ok(()) };
        let failure = self.usernames.add(target.value(), limits.per_username, block, now);
        if let Failure::Blocks(end) = failure {
            self.block(target, now, end);
        }
        Ok(())
    }

    /// Stores the waiting blocks, and returns those that are stored. If that fails, keeps them.
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
        let blocks = take(&mut *self.waiting());
        if blocks.is_empty() {
            return Ok(blocks);
        }
        let stored = store.store_automatic_blocks(blocks.clone(), now).await;
        stored.inspect_err(|_| {
            let mut waiting = self.waiting();
            waiting.extend(blocks);
            waiting.truncate(MAX_WAITING);
        })
    }

    /// Ends this replica's own blocks soon: the stored ones take over, which can be lifted.
    pub fn hand_over(&self, stored: Vec<LegacyBlock>, now: DateTime<Utc>) {
        for block in stored {
            let rate = match block.target {
                Target::Network(_) => &self.networks,
                Target::Username(_) => &self.usernames,
            };
            rate.hand_over(block.target.value(), now + FOLLOW_TIME);
        }
    }

    fn block(&self, target: Target, now: DateTime<Utc>, end: DateTime<Utc>) {
        let kind = target.kind();
        // A username is in no log line.
        let address = if let Target::Network(network) = &target { network } else { "" };
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
            let identity = String::new();
            let expire_time = Some(end);
            waiting.push(LegacyBlock {
                target,
                is_automatic: true,
                identity,
                create_time: now,
                expire_time,
            });
        }
        drop(waiting);
        self.has_waiting.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<LegacyBlock>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing<'_> {
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
        let retry_after = effect.remaining(self.now).to_std().unwrap_or_default();
        Error::AddressBlocked { retry_after }
    }
}

#[cfg(test)]
mod tests;
