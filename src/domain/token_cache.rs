//! A cache of service tokens, at most one second old. It reads all tokens at once, so a flood of
//! unknown tokens costs the storage nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Semaphore;

use super::{
    call_context::CallContext,
    clock::Clock,
    error::{Error, chain},
    identity::Identity,
    token::{ServiceToken, TokenStore},
    ttl_cache::TtlCache,
};

/// The resolution of a token's last-used time.
pub const USED_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// Maximum concurrent writes of last-used times. Further uses are recorded by later calls.
const NOTED_AT_ONCE: usize = 4;

/// Authenticates service tokens.
pub struct TokenCache {
    store: Arc<dyn TokenStore>,
    clock: Arc<dyn Clock>,
    known: TtlCache<Arc<Known>>,
    noting: Arc<Semaphore>,
}

/// The active tokens by id.
struct Known {
    holders: HashMap<String, Holder>,
    /// Whether any token exists, active or not.
    any: bool,
}

struct Holder {
    token: ServiceToken,
    identity: Arc<Identity>,
    /// Whether the use was recorded since the token was read, or need not be.
    noted: AtomicBool,
}

impl TokenCache {
    /// A cache of the tokens in a store.
    pub fn new(store: Arc<dyn TokenStore>, clock: Arc<dyn Clock>) -> Self {
        let noting = Arc::new(Semaphore::new(NOTED_AT_ONCE));
        Self { store, clock, known: TtlCache::default(), noting }
    }

    /// Whether any token exists, active or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    pub async fn any(&self, call: &CallContext) -> Result<bool, Error> {
        Ok(self.known(call).await?.any)
    }

    /// The holder of an active token.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], [`Error::Unavailable`] or [`Error::Internal`].
    pub async fn authenticate(
        &self,
        call: &CallContext,
        text: &str,
    ) -> Result<Arc<Identity>, Error> {
        let id = ServiceToken::id_of(text).ok_or(Error::Unauthenticated)?;
        let known = self.known(call).await?;
        let now = self.clock.now();
        let holder = known.holders.get(id).filter(|holder| holder.token.proves(text, now));
        let holder = holder.ok_or(Error::Unauthenticated)?;
        self.note(holder, now);
        Ok(Arc::clone(&holder.identity))
    }

    async fn known(&self, call: &CallContext) -> Result<Arc<Known>, Error> {
        let read = async {
            let now = self.clock.now();
            let tokens = self.store.active_tokens(call, now).await?;
            let any = !tokens.is_empty() || self.store.has_tokens(call).await?;
            let holder = |token: ServiceToken| {
                let recent = token.last_used_time.is_some_and(|used| now - used < USED_WITHIN);
                let (identity, noted) = (Arc::new(token.holder()), AtomicBool::new(recent));
                (token.id.clone(), Holder { token, identity, noted })
            };
            Ok(Arc::new(Known { holders: tokens.into_iter().map(holder).collect(), any }))
        };
        self.known.get(read).await
    }

    /// Records the use of a token in the background.
    fn note(&self, holder: &Holder, now: DateTime<Utc>) {
        if holder.noted.load(Ordering::Relaxed) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.noting).try_acquire_owned() else { return };
        if holder.noted.swap(true, Ordering::Relaxed) {
            return;
        }
        let (store, id) = (Arc::clone(&self.store), holder.token.id.clone());
        tokio::spawn(async move {
            if let Err(error) = store.token_used(&id, now).await {
                tracing::warn!(error = chain(&error), "the use of a token could not be noted");
            }
            drop(turn);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Duration};

    use async_trait::async_trait;

    use super::*;
    use crate::domain::{administration::Administrator, clock::SystemClock};

    /// A store without tokens that counts reads.
    #[derive(Default)]
    struct Empty(AtomicUsize);

    #[async_trait]
    impl TokenStore for Empty {
        async fn active_tokens(
            &self,
            _call: &CallContext,
            _now: DateTime<Utc>,
        ) -> Result<Vec<ServiceToken>, Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        }

        async fn tokens(&self) -> Result<Vec<ServiceToken>, Error> {
            Ok(Vec::new())
        }

        async fn has_tokens(&self, _call: &CallContext) -> Result<bool, Error> {
            Ok(false)
        }

        async fn create_token(
            &self,
            _by: &Administrator,
            _token: ServiceToken,
        ) -> Result<(), Error> {
            Ok(())
        }

        async fn revoke_tokens(
            &self,
            _by: &Administrator,
            _name: &str,
            _now: DateTime<Utc>,
        ) -> Result<usize, Error> {
            Ok(0)
        }

        async fn token_used(&self, _id: &str, _now: DateTime<Utc>) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_unknown_tokens_asks_the_storage_once_a_second() {
        let store = Arc::new(Empty::default());
        let token_cache = TokenCache::new(Arc::clone(&store) as _, Arc::new(SystemClock));
        let call = CallContext::default();
        for second in 1..=3 {
            for number in 0..1000 {
                let outcome = token_cache.authenticate(&call, &format!("m4_{number:016x}_0")).await;
                assert!(matches!(outcome, Err(Error::Unauthenticated)));
            }
            assert_eq!(store.0.load(Ordering::Relaxed), second);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
