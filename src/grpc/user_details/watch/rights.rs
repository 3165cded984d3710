//! The rights of a subscription's caller, which are checked while the stream is open.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Extensions,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        identity::Identity,
        rules::Visibility,
        scope::Scope,
        service::Service,
        watch::{EntryFilter, SubscriptionFilter},
    },
    grpc::auth::Authentication,
    server::Peer,
};

/// Interval between checks of the caller's rights. Rights are cached for up to one second, so a
/// revoked right ends the stream within two seconds.
const CHECK_INTERVAL: Duration = Duration::from_millis(700);

/// How long checks of the rights may fail as unavailable: nothing can be read then, either.
const UNCHECKED: Duration = Duration::from_secs(10);

/// The metadata key of the caller's credentials.
const AUTHORIZATION: &str = "authorization";

/// The caller of a subscription, and what its rights depend on.
pub(super) struct Rights {
    pub(super) service: Arc<Service>,
    pub(super) authentication: Arc<Authentication>,
    /// Timeout of a check.
    pub(super) timeout: Duration,
    /// The caller's [`credentials`].
    pub(super) metadata: MetadataMap,
    pub(super) extensions: Extensions,
    pub(super) acting_username: String,
}

impl Rights {
    /// The key for per-caller limits: the identity's name, or the peer's address if callers need no
    /// identity.
    pub(super) fn caller(&self, identity: &Identity) -> String {
        match self.extensions.get::<Peer>() {
            Some(peer) if identity.name().is_empty() => format!("address {}", peer.address.ip()),
            _ => format!("identity {}", identity.name()),
        }
    }

    /// The caller and the filter that its current rights allow, for one user if `user_id` is given.
    pub(super) async fn filter(
        &self,
        context: &CallContext,
        user_id: Option<i64>,
    ) -> Result<(Arc<Identity>, SubscriptionFilter), Error> {
        let filter = async {
            let (headers, extensions) = (self.metadata.as_ref(), &self.extensions);
            let caller =
                self.authentication.caller(context, headers, extensions).await?.internal()?;
            let actor = context.actor(&caller, Scope::Read, &self.acting_username)?;
            let visibility = self.service.store.visibility(context, &actor, user_id).await?;
            let entries = EntryFilter::default();
            Ok((caller, SubscriptionFilter { user_id, visibility, entries }))
        };
        timeout(self.timeout, filter).await.unwrap_or(Err(Error::DeadlineExceeded))
    }

    /// Checks the caller's rights repeatedly, until the caller may no longer watch. Tolerates a
    /// short failure to check.
    pub(super) async fn until_refused(&self, watched: &SubscriptionFilter) -> Error {
        let mut checked = Instant::now();
        // A caller that sees all users needs no check for a single user.
        let user_id = watched.user_id.filter(|_| watched.visibility != Visibility::All);
        loop {
            sleep(CHECK_INTERVAL).await;
            // Not in the call's context: a span per check would grow the trace without limit.
            match self.filter(&CallContext::default(), user_id).await {
                Ok((_, now)) if now.visibility == watched.visibility => checked = Instant::now(),
                // The client may subscribe again with its new rights.
                Ok(_) => return Error::Unavailable("the caller's rights have changed".into()),
                Err(Error::Unavailable(_) | Error::DeadlineExceeded)
                    if checked.elapsed() < UNCHECKED => {}
                Err(error) => return error,
            }
        }
    }
}

/// A copy of the caller's credentials. The other metadata would take memory as long as the stream
/// lasts, and so would the original value: it shares the memory of all headers.
pub(super) fn credentials(metadata: &MetadataMap) -> MetadataMap {
    let copy = |value: &MetadataValue<Ascii>| value.as_bytes().try_into().ok();
    let mut credentials = MetadataMap::new();
    if let Some(value) = metadata.get(AUTHORIZATION).and_then(copy) {
        credentials.insert(AUTHORIZATION, value);
    }
    credentials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_retains_only_its_credentials() {
        let mut metadata = MetadataMap::new();
        metadata.insert("x-large", "x".repeat(8000).parse().unwrap());
        assert!(credentials(&metadata).is_empty());
        metadata.insert(AUTHORIZATION, "Bearer token".parse().unwrap());
        metadata.insert_bin("x-large-bin", MetadataValue::from_bytes(&[0; 8000]));
        let credentials = credentials(&metadata);
        assert_eq!(credentials.len(), 1);
        let copy = credentials.get(AUTHORIZATION).unwrap();
        assert_eq!(copy, "Bearer token");
        let original = metadata.get(AUTHORIZATION).unwrap();
        assert_ne!(copy.as_encoded_bytes().as_ptr(), original.as_encoded_bytes().as_ptr());
    }
}
