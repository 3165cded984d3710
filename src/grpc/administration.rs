//! `AdministrationService`: convert, call, convert.

use std::{mem::take, sync::Arc};

use tonic::{Extensions, Request, Response, Status};

use super::{auth::Caller, call::unary, convert::timestamp, layers::trace::Begun, paging::Paged};
use crate::{
    domain::{
        administration::{AdminEntry, Administrator},
        error::Error,
        identity::Identity,
        listing::{Cursor, Listed},
        page_token::Purpose,
        scope::Scope,
        service::Service,
    },
    proto::{
        AdministrationEntry, ListAdministrationLogRequest, ListAdministrationLogResponse,
        administration_service_server::AdministrationService,
    },
    server::Peer,
};

/// The handlers of `AdministrationService`.
pub(super) struct AdministrationLog {
    pub(super) service: Arc<Service>,
    /// Maximum size of a message, in bytes.
    pub(super) largest_message: usize,
}

#[tonic::async_trait]
impl AdministrationService for AdministrationLog {
    async fn list_administration_log(
        &self,
        request: Request<ListAdministrationLogRequest>,
    ) -> Result<Response<ListAdministrationLogResponse>, Status> {
        unary!(self.list(request))
    }
}

impl AdministrationLog {
    async fn list(
        &self,
        extensions: &Extensions,
        mut request: ListAdministrationLogRequest,
    ) -> Result<ListAdministrationLogResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Admin, &request.acting_username)?;
        let page = (take(&mut request.page_size), take(&mut request.page_token));
        let (paged, after) =
            Paged::begin((&self.service, call), Purpose::ListAdministration, &request, page)
                .await?;
        let (before, limit) = (after.map(|after| after.id), paged.limit());
        let items = self.service.administration_log(call, &actor, before, limit).await?;
        let listed = Listed { items, is_cut: false };
        let position =
            |entry: &AdminEntry| Cursor { username: String::new(), update_time: 0, id: entry.id };
        let (entries, next_page_token) =
            paged.page(listed, self.largest_message, position, to_proto);
        Ok(ListAdministrationLogResponse { entries, next_page_token })
    }
}

/// Who makes an administrative call.
pub(super) fn administrator(
    caller: &Identity,
    extensions: &Extensions,
    acting_username: &str,
) -> Administrator {
    let peer = extensions.get::<Peer>().map(|peer| peer.address);
    Administrator {
        identity: caller.name().to_owned(),
        acting_username: acting_username.to_owned(),
        address: peer.map(|peer| peer.ip().to_string()).unwrap_or_default(),
    }
}

fn to_proto(entry: AdminEntry) -> AdministrationEntry {
    let Administrator { identity, acting_username, address } = entry.by;
    AdministrationEntry {
        entry_id: entry.id,
        change_time: Some(timestamp(entry.time)),
        identity,
        acting_username,
        address,
        object: entry.object,
        name: entry.name,
        old_value: entry.old,
        new_value: entry.new,
    }
}
