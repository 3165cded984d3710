//! The context of a call: an argument of every step from the gRPC layers to the storage.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use tokio::time::Instant;

use super::{
    error::Error, identity::Identity, legacy_key::MatchedKey, scope::Scope, update::Actor,
};
use crate::trace::Span;

/// The context of a call. The default is the context of the service's own work.
#[derive(Clone, Debug, Default)]
pub struct CallContext {
    /// The end of the call; `None` for the service's own work.
    pub deadline: Option<Instant>,
    /// The parent of the call's spans.
    pub(crate) span: Span,
    /// Filled on the way, for the log line.
    pub record: Arc<CallRecord>,
}

impl CallContext {
    /// The actor of a typed call: [`Identity::actor`], recorded for the log line.
    ///
    /// # Errors
    /// The errors of [`Identity::actor`].
    pub fn actor(
        &self,
        caller: &Identity,
        scope: Scope,
        acting_username: &str,
    ) -> Result<Actor, Error> {
        let actor = caller.actor(scope, acting_username)?;
        if let Actor::Service(name) = &actor {
            self.record.set_service(name);
        }
        Ok(actor)
    }
}

/// The facts of a call for its log line. The first value of each fact counts.
#[derive(Debug, Default)]
pub struct CallRecord {
    client: OnceLock<IpAddr>,
    identity: OnceLock<Arc<Identity>>,
    key: OnceLock<MatchedKey>,
    actor: OnceLock<ActorRecord>,
    user_id: OnceLock<i64>,
}

#[derive(Debug)]
enum ActorRecord {
    Account(i64),
    Service(String),
}

impl CallRecord {
    /// Records the address of a legacy client, from its gateway.
    pub fn set_client(&self, address: IpAddr) {
        let _ = self.client.set(address);
    }

    /// Records the authenticated caller.
    pub fn set_identity(&self, identity: &Arc<Identity>) {
        let _ = self.identity.set(Arc::clone(identity));
    }

    /// Records the key of a legacy call.
    pub fn set_key(&self, key: &MatchedKey) {
        let _ = self.key.set(key.clone());
    }

    /// Records the id of the acting account.
    pub fn set_account(&self, id: i64) {
        let _ = self.actor.set(ActorRecord::Account(id));
    }

    /// Records the name of the service that acts in its own name.
    fn set_service(&self, name: &str) {
        let _ = self.actor.set(ActorRecord::Service(name.to_owned()));
    }

    /// Records the user that the call reads or changes. 0 is no user.
    pub fn set_user(&self, id: i64) {
        if id != 0 {
            let _ = self.user_id.set(id);
        }
    }

    /// The address of the legacy client.
    pub fn client(&self) -> Option<IpAddr> {
        self.client.get().copied()
    }

    /// The name of the authenticated caller, or of the key of a legacy call; `None` if authentication is
    /// off.
    pub fn identity(&self) -> Option<&str> {
        let identity = self.identity.get().map(|identity| identity.name());
        identity.or_else(|| Some(self.key.get()?.name())).filter(|name| !name.is_empty())
    }

    /// The id of the acting account; `None` if unknown, or for a service in its own name.
    pub fn account(&self) -> Option<i64> {
        match self.actor.get()? {
            ActorRecord::Account(id) => Some(*id),
            ActorRecord::Service(_) => None,
        }
    }

    /// The name of the service that acts in its own name.
    pub fn service(&self) -> Option<&str> {
        match self.actor.get()? {
            ActorRecord::Account(_) => None,
            ActorRecord::Service(name) => Some(name),
        }
    }

    /// The user that the call reads or changes.
    pub fn user_id(&self) -> Option<i64> {
        self.user_id.get().copied()
    }
}
