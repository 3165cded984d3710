//! The stored client keys.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    administration::Administrator, call_context::CallContext, error::Error, legacy_key::LegacyKey,
    master_key::Sealed,
};

/// The stored client keys. No key is ever deleted. Each change is in the administration log.
#[async_trait]
pub trait LegacyKeyStore: Send + Sync {
    /// The active keys, at most [`super::legacy_key::MAX_ACTIVE_KEYS`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn active_legacy_keys(
        &self,
        call: &CallContext,
        now: DateTime<Utc>,
    ) -> Result<Vec<LegacyKey>, Error>;

    /// Keys, oldest first: at most `limit` behind a creation time (in microseconds) and id.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn legacy_keys(
        &self,
        call: &CallContext,
        after: Option<(i64, String)>,
        limit: u64,
    ) -> Result<Vec<LegacyKey>, Error>;

    /// Stores a new key.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn create_legacy_key(
        &self,
        call: &CallContext,
        by: &Administrator,
        key: LegacyKey,
    ) -> Result<(), Error>;

    /// Revokes the unrevoked keys with an id or a name. Returns their number.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn revoke_legacy_keys(
        &self,
        call: &CallContext,
        by: &Administrator,
        id_or_name: &str,
        now: DateTime<Utc>,
    ) -> Result<usize, Error>;

    /// Replaces sealed secrets, given with the ids of their keys.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn reseal_legacy_keys(
        &self,
        call: &CallContext,
        by: (&Administrator, DateTime<Utc>),
        secrets: Vec<(String, Sealed)>,
    ) -> Result<(), Error>;
}
