//! `ListUserDetails`.

use std::{mem::take, sync::Arc};

use tonic::Extensions;

use super::handler::UserDetails;
use crate::{
    domain::{
        error::Error,
        listing::{Cursor, ListedUser, Order, OrderKey, UnreadableUser, UserFilter, UserQuery},
        page_token::{Purpose, TokenKey},
        scope::Scope,
    },
    grpc::{
        auth::Caller,
        convert,
        errors::invalid_request,
        layers::trace::Begun,
        paging::{Measured, Paged, Tokens, page_size, read_page, time},
        resume,
    },
    proto::{
        self, ListUserDetailsRequest, ListUserDetailsResponse, UnreadableUserDetails,
        UserDetailsFilter,
    },
};

impl UserDetails {
    pub(super) async fn list(
        &self,
        extensions: &Extensions,
        request: ListUserDetailsRequest,
    ) -> Result<ListUserDetailsResponse, Error> {
        let (call, caller) = (Begun::context(extensions)?, Caller::identity(extensions)?);
        let actor = call.actor(&caller, Scope::Read, &request.acting_username)?;
        let mask = convert::read_mask(request.read_mask.as_ref())?;
        let key = self.service.store.token_key(call).await?;
        let is_first_page = request.page_token.is_empty();
        let mut watch_token = String::new();
        if request.with_watch_token && is_first_page {
            // Before the list is read: the watch begins with what the list may not contain.
            let position = self.service.store.position(call).await?;
            watch_token = resume::Tokens::issue_of_list(&key, &position, self.service.clock.now());
        }
        let paged = to_query(request, key)?;
        let (is_large, limit) = (paged.is_large(), self.options.largest_message);
        let (store, query) = (Arc::clone(&self.service.store), paged.query.clone());
        let context = call.clone();
        let read = move |max_bytes| {
            let (store, context, actor) = (Arc::clone(&store), context.clone(), actor.clone());
            let query = UserQuery { max_bytes, ..query.clone() };
            async move { store.list(&context, &actor, &query).await }
        };
        let convert = move |users| {
            let key = paged.query.order.key;
            let place = |row: &_| Cursor::of(row, key);
            let convert = |row| match row {
                ListedUser::User(user) => Row::User(convert::masked_details(user, &mask)),
                ListedUser::Unreadable(user) => Row::Unreadable(to_unreadable(user)),
            };
            let (rows, next_page_token) = paged.page(users, limit, place, convert);
            let (mut user_details, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
            for row in rows {
                match row {
                    Row::User(user) => user_details.push(user),
                    Row::Unreadable(user) => unreadable.push(user),
                }
            }
            ListUserDetailsResponse { user_details, next_page_token, watch_token, unreadable }
        };
        let workers = self.workers_for(extensions).map(|workers| (workers, &call.span));
        read_page(workers, is_large, limit, read, convert).await
    }
}

/// A row of the response.
enum Row {
    User(proto::UserDetails),
    Unreadable(UnreadableUserDetails),
}

impl Measured for Row {
    fn length(&self) -> usize {
        match self {
            Self::User(user) => user.length(),
            Self::Unreadable(user) => user.length(),
        }
    }
}

fn to_unreadable(UnreadableUser { place, field }: UnreadableUser) -> UnreadableUserDetails {
    UnreadableUserDetails { user_id: place.id, username: place.username, field }
}

/// Converts a request for a list of users.
///
/// # Errors
/// [`Error::InvalidRequest`].
pub(crate) fn to_query(
    mut request: ListUserDetailsRequest,
    key: TokenKey,
) -> Result<Paged<UserQuery>, Error> {
    let size = page_size(take(&mut request.page_size))?;
    let token = take(&mut request.page_token);
    let tokens = Tokens::new(key, Purpose::ListUsers, &request);
    let after = tokens.position(&token)?;
    let filter = request.filter.unwrap_or_default();
    let UserDetailsFilter {
        username_prefix, email, blocked, hidden, responsible_manager_id, ..
    } = filter;
    let updated_since = time(filter.updated_since, "filter.updated_since")?;
    let query = UserQuery {
        filter: UserFilter {
            username_prefix,
            email,
            blocked,
            hidden,
            responsible_manager_id,
            updated_since,
        },
        order: order(&request.order_by, updated_since.is_some())?,
        after,
        limit: size as u64 + 1,
        max_bytes: usize::MAX,
    };
    Ok(Paged { query, size, tokens })
}

/// Parses `order_by`. The default order follows an index for the filter.
fn order(order_by: &str, updated_since: bool) -> Result<Order, Error> {
    let mut words = order_by.split_ascii_whitespace();
    let key = match words.next() {
        None if updated_since => OrderKey::UpdateTime,
        None | Some("id") => OrderKey::Id,
        Some("username") => OrderKey::Username,
        Some("update_time") => OrderKey::UpdateTime,
        Some(_) => return Err(invalid_request("order_by", "must be id, username or update_time")),
    };
    let descending = match (words.next(), words.next()) {
        (None | Some("asc"), None) => false,
        (Some("desc"), None) => true,
        _ => {
            return Err(invalid_request(
                "order_by",
                "must be one field, optionally followed by `asc` or `desc`",
            ));
        }
    };
    Ok(Order { key, descending })
}
