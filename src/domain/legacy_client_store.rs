//! The stored clients of legacy calls.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::legacy_client::{ClientId, FailedHashes, Tally};
use super::{call_context::CallContext, error::Error};

/// A stored client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyClient {
    /// The client.
    pub id: ClientId,
    /// When it was first seen.
    pub first: DateTime<Utc>,
    /// When it was last seen.
    pub last: DateTime<Utc>,
    /// The number of calls with a right hash.
    pub calls: u64,
    /// The number of these calls that were refused or failed.
    pub refused: u64,
    /// The number of these calls that used GET.
    pub gets: u64,
    /// The number of wrong hashes from its network with its username, since it was first seen.
    pub failed_hashes: u64,
    /// The recipe of its last call: a name of [`super::hash::Recipe`], or of a newer version.
    pub recipe: String,
    /// The paths of all fields that it has sent.
    pub fields: Vec<String>,
}

/// Which stored clients to list: those last seen first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientQuery {
    /// Only clients that were seen since this time.
    pub since: Option<DateTime<Utc>>,
    /// The time and the digest of the client behind which the page begins.
    pub after: Option<(i64, String)>,
    /// The maximum number of clients.
    pub limit: u64,
}

/// The stored clients.
#[async_trait]
pub trait LegacyClientStore: Send + Sync {
    /// Adds tallies, all or none. Returns the clients whose key was used from other networks before,
    /// but never from this network.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn add_legacy_clients(
        &self,
        clients: &[(ClientId, Tally)],
        failed: &[FailedHashes],
    ) -> Result<Vec<ClientId>, Error>;

    /// The names of keys and the networks of clients that have stored a call and were seen since a time: at
    /// most [`super::known_clients::MAX_KNOWN`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn known_clients(
        &self,
        since: Option<DateTime<Utc>>,
    ) -> Result<Vec<(String, String)>, Error>;

    /// The stored clients.
    ///
    /// # Errors
    /// [`Error::Unavailable`] or [`Error::Internal`] of the storage.
    async fn legacy_clients(
        &self,
        call: &CallContext,
        query: &ClientQuery,
    ) -> Result<Vec<LegacyClient>, Error>;
}
