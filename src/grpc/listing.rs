//! Pages: requests to queries, and the tokens that say where a page begins.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use prost::Message;
use prost_types::Timestamp;
use sha1::{Digest, Sha1};

use super::convert;
use crate::{
    domain::{
        error::Error,
        listing::{
            ChangeFilter, ChangeQuery, LoggedChange, Order, OrderKey, Position, UserFilter,
            UserQuery,
        },
    },
    proto::{
        ListUserDetailsChangesRequest, ListUserDetailsRequest, UserDetailsChange, UserDetailsFilter,
    },
    trace,
};

/// How many items a page has if nothing is said.
const USUAL_PAGE: i32 = 50;
/// How many items a page has at most.
const LARGEST_PAGE: i32 = 1000;
/// The bytes of a message that are kept for the token of the next page.
const TOKEN_ROOM: usize = 4096;
/// The bytes that an item takes beside its own: a tag and a length.
const ITEM_ROOM: usize = 8;

/// What a page token holds; opaque to callers.
#[derive(Clone, PartialEq, Eq, Message)]
struct Token {
    /// Of the request without page size and token: a token goes with its own list only.
    #[prost(bytes = "vec", tag = "1")]
    request: Vec<u8>,
    #[prost(int64, tag = "2")]
    id: i64,
    #[prost(string, tag = "3")]
    username: String,
    #[prost(int64, tag = "4")]
    update_time: i64,
}

/// A list that is asked for, and what its tokens are bound to.
pub(super) struct Paged<Q> {
    /// The query, for one item more than the page has: so it is known whether there is another page.
    pub(super) query: Q,
    size: usize,
    request: Vec<u8>,
}

impl<Q> Paged<Q> {
    /// The page: as many items as are asked for and have room in a message of `limit` bytes, and the token of the next page,
    /// which is empty where there is none.
    pub(super) fn page<T, M: Message>(
        self,
        items: Vec<T>,
        limit: usize,
        position: impl Fn(&T) -> Position,
        convert: impl Fn(T) -> M,
    ) -> (Vec<M>, String) {
        let mut page = Vec::with_capacity(items.len());
        let mut room = limit.saturating_sub(TOKEN_ROOM);
        let mut last = None;
        for item in items {
            let place = position(&item);
            let item = convert(item);
            let length = item.encoded_len() + ITEM_ROOM;
            if let Some(Position { username, update_time, id }) = last
                && (page.len() == self.size || length > room)
            {
                let token = Token { request: self.request, id, username, update_time };
                return (page, URL_SAFE_NO_PAD.encode(token.encode_to_vec()));
            }
            room = room.saturating_sub(length);
            page.push(item);
            last = Some(place);
        }
        (page, String::new())
    }
}

/// The list of users that is asked for.
///
/// # Errors
/// [`Error::InvalidRequest`].
pub(super) fn users(mut request: ListUserDetailsRequest) -> Result<Paged<UserQuery>, Error> {
    let size = page_size(std::mem::take(&mut request.page_size))?;
    let token = std::mem::take(&mut request.page_token);
    let bound = digest(&request);
    let after = after(&token, &bound)?;
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
    };
    Ok(Paged { query, size, request: bound })
}

/// The entries of the change log that are asked for.
///
/// # Errors
/// [`Error::InvalidRequest`].
pub(super) fn changes(
    mut request: ListUserDetailsChangesRequest,
) -> Result<Paged<ChangeQuery>, Error> {
    let size = page_size(std::mem::take(&mut request.page_size))?;
    let token = std::mem::take(&mut request.page_token);
    let bound = digest(&request);
    let after = after(&token, &bound)?.map(|position| position.id);
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
    };
    Ok(Paged { query, size, request: bound })
}

/// An entry of the change log as the wire has it.
pub(super) fn change(change: LoggedChange) -> UserDetailsChange {
    UserDetailsChange {
        change_id: change.id,
        user_id: change.user_id,
        etag: crate::domain::account::etag(change.user_id, change.version),
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

/// The position of an entry of the change log.
pub(super) fn position(change: &LoggedChange) -> Position {
    Position { username: String::new(), update_time: 0, id: change.id }
}

fn page_size(asked: i32) -> Result<usize, Error> {
    let size = if asked == 0 { USUAL_PAGE } else { asked.min(LARGEST_PAGE) };
    usize::try_from(size).map_err(|_| invalid("page_size", "is negative"))
}

fn digest(request: &impl Message) -> Vec<u8> {
    Sha1::digest(request.encode_to_vec())[..8].to_vec()
}

fn after(token: &str, bound: &[u8]) -> Result<Option<Position>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let token = bytes.and_then(|bytes| Token::decode(&*bytes).ok());
    let token = token.ok_or_else(|| invalid("page_token", "is none that was given"))?;
    if token.request != bound {
        return Err(invalid("page_token", "is of another list: only page_size may differ"));
    }
    let Token { id, username, update_time, .. } = token;
    Ok(Some(Position { username, update_time, id }))
}

/// Without a word of it the order is one in which an index leads to the users.
fn order(order_by: &str, updated_since: bool) -> Result<Order, Error> {
    let mut words = order_by.split_ascii_whitespace();
    let key = match words.next() {
        None if updated_since => OrderKey::UpdateTime,
        None | Some("id") => OrderKey::Id,
        Some("username") => OrderKey::Username,
        Some("update_time") => OrderKey::UpdateTime,
        Some(_) => return Err(invalid("order_by", "must be id, username or update_time")),
    };
    let descending = match (words.next(), words.next()) {
        (None | Some("asc"), None) => false,
        (Some("desc"), None) => true,
        _ => return Err(invalid("order_by", "may have only ` desc` behind its one field")),
    };
    Ok(Order { key, descending })
}

fn time(time: Option<Timestamp>, field: &'static str) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(time) = time else { return Ok(None) };
    let nanos = u32::try_from(time.nanos).ok();
    let time = nanos.and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
    // Years that protobuf allows.
    let time = time.filter(|time| (-62_135_596_800..253_402_300_800).contains(&time.timestamp()));
    time.map(Some).ok_or_else(|| invalid(field, "is no time"))
}

fn invalid(field: &'static str, problem: &str) -> Error {
    Error::InvalidRequest { field, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_as_many_items_as_fit_in_a_message_and_one_at_least() {
        let request = ListUserDetailsRequest { page_size: 5, ..Default::default() };
        let texts = |sizes: &[usize]| sizes.iter().map(|size| "x".repeat(*size)).collect();
        let at = |id: usize| Position { username: String::new(), update_time: 0, id: id as i64 };
        for (sizes, expected, more) in [
            (&[100; 5][..], 5, false),
            (&[100; 6], 5, true),
            (&[40_000, 40_000, 40_000], 2, true),
            (&[40_000, 40_000], 2, false),
            (&[200_000, 1], 1, true),
            (&[], 0, false),
        ] {
            let items: Vec<String> = texts(sizes);
            let paged = users(request.clone()).unwrap();
            let (page, token) = paged.page(items, 100_000, |item| at(item.len()), |item| item);
            assert_eq!((page.len(), !token.is_empty()), (expected, more), "{sizes:?}");
            if more {
                let place = after(&token, &digest(&ListUserDetailsRequest::default())).unwrap();
                assert_eq!(place.unwrap().id, at(page[expected - 1].len()).id);
            }
        }
    }
}
