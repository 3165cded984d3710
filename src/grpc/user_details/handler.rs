//! What the methods of `UserDetailsService` share.

use std::sync::Arc;

use tonic::Extensions;

use crate::{
    domain::{
        error::Error,
        identity::Identity,
        service::Service,
        update::{EntryPoint, Origin},
    },
    grpc::{
        auth::Authentication,
        call::CallOptions,
        errors::invalid_request,
        workers::{OnWorker, Workers},
    },
    server::Peer,
};

/// The handlers of `UserDetailsService`.
pub(in crate::grpc) struct UserDetails {
    pub(in crate::grpc) service: Arc<Service>,
    pub(in crate::grpc) authentication: Arc<Authentication>,
    pub(in crate::grpc) options: CallOptions,
    pub(in crate::grpc) workers: Arc<Workers>,
}

impl UserDetails {
    /// The workers for a part of a call; `None` if the call runs on a worker.
    pub(super) fn workers_for(&self, extensions: &Extensions) -> Option<&Workers> {
        (!OnWorker::is_in(extensions)).then_some(&*self.workers)
    }
}

/// The origin of a typed API call. The address is empty for callers in this process.
pub(super) fn origin(caller: &Identity, extensions: &Extensions) -> Origin {
    let peer = extensions.get::<Peer>().map(|peer| peer.address);
    let address = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
    Origin { address, identity: caller.name().to_owned(), ..Origin::of(EntryPoint::Grpc) }
}

/// Refuses a request without a user id: proto3 cannot tell 0 from absent.
pub(super) fn given_user_id(user_id: i64) -> Result<(), Error> {
    if user_id == 0 {
        return Err(invalid_request("user_id", "must be given"));
    }
    Ok(())
}
