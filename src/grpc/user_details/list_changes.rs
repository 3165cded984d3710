//! `ListUserDetailsChanges`.

use std::{mem::take, sync::Arc};

use tonic::Extensions;

use super::handler::UserDetails;
use crate::{
    domain::{
        account::etag,
        error::Error,
        listing::{ChangeFilter, ChangeQuery, Cursor, LoggedChange},
        page_token::{Purpose, TokenKey},
        scope::Scope,
    },
    grpc::{
        auth::Caller,
        convert,
        layers::trace::Begun,
        paging::{Paged, Tokens, page_size, read_page, time},
    },
    proto::{ListUserDetailsChangesRequest, ListUserDetailsChangesResponse, UserDetailsChange},
    trace,
};

impl UserDetails {
    pub(super) async fn list_changes(
        &self,
        extensions: &Extensions,
        request: ListUserDetailsChangesRequest,
    ) -> Result<ListUserDetailsChangesResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Read, &request.acting_username)?;
        request.user_id.into_iter().for_each(|user_id| call.record.set_user(user_id));
        let paged = to_query(request, self.service.store.token_key(call).await?)?;
        let (is_large, limit) = (paged.is_large(), self.options.largest_message);
        let (store, query) = (Arc::clone(&self.service.store), paged.query.clone());
        let context = call.clone();
        let read = move |max_bytes| {
            let (store, context, actor) = (Arc::clone(&store), context.clone(), actor.clone());
            let query = ChangeQuery { max_bytes, ..query.clone() };
            async move { store.list_changes(&context, &actor, &query).await }
        };
        let convert = move |changes| {
            let (changes, next_page_token) = paged.page(changes, limit, cursor, to_change);
            ListUserDetailsChangesResponse { changes, next_page_token }
        };
        let workers = self.workers_for(extensions).map(|workers| (workers, &call.span));
        read_page(workers, is_large, limit, read, convert).await
    }
}

/// Converts a request for entries of the change log.
///
/// # Errors
/// [`Error::InvalidRequest`].
pub(crate) fn to_query(
    mut request: ListUserDetailsChangesRequest,
    key: TokenKey,
) -> Result<Paged<ChangeQuery>, Error> {
    let size = page_size(take(&mut request.page_size))?;
    let token = take(&mut request.page_token);
    let tokens = Tokens::new(key, Purpose::ListChanges, &request);
    let after = tokens.position(&token)?.map(|position| position.id);
    let query = ChangeQuery {
        filter: ChangeFilter {
            user_id: request.user_id,
            actor_id: request.actor_id,
            service: request.service,
            since: time(request.since, "since")?,
            until: time(request.until, "until")?,
        },
        descending: request.newest_first,
        after,
        limit: size as u64 + 1,
        max_bytes: usize::MAX,
    };
    Ok(Paged { query, size, tokens })
}

/// Converts an entry of the change log to proto.
pub(super) fn to_change(change: LoggedChange) -> UserDetailsChange {
    UserDetailsChange {
        change_id: change.id,
        user_id: change.user_id,
        etag: etag(change.user_id, change.version),
        change_time: Some(convert::timestamp(change.time)),
        actor_id: change.actor_id,
        service: change.service.unwrap_or_default(),
        door: change.origin.door.as_str().to_owned(),
        address: change.origin.address,
        reason: change.origin.reason,
        request_id: change.origin.request_id,
        changed_fields: Some(convert::paths(&change.changes)),
        previous_details: Some(convert::values(change.changes.clone(), |change| change.old)),
        details: Some(convert::values(change.changes, |change| change.new)),
        identity: change.origin.identity,
        trace_id: trace::id_in(&change.origin.traceparent).to_owned(),
    }
}

/// The cursor of a change log entry.
fn cursor(change: &LoggedChange) -> Cursor {
    Cursor { username: String::new(), update_time: 0, id: change.id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::page_token::KEY_LENGTH, grpc::user_details::list, proto::ListUserDetailsRequest,
    };

    #[test]
    fn a_token_of_users_is_none_of_changes() {
        let key = TokenKey::new(&[0; KEY_LENGTH]);
        let position = Cursor { username: String::new(), update_time: 0, id: 7 };
        let request = ListUserDetailsRequest::default();
        let page_token = Tokens::new(key.clone(), Purpose::ListUsers, &request).issue(position);
        let next = ListUserDetailsRequest { page_token: page_token.clone(), ..request };
        assert_eq!(list::to_query(next, key.clone()).unwrap().query.after.unwrap().id, 7);
        let next = ListUserDetailsChangesRequest { page_token, ..Default::default() };
        let refused = to_query(next, key).err().unwrap();
        assert!(matches!(refused, Error::InvalidRequest { field: "page_token", .. }));
    }
}
