//! Pagination: pages within the message size limit, and page tokens.

use chrono::{DateTime, Utc};
use prost::Message;
use prost_types::Timestamp;
use sha2::{Digest, Sha256};

use super::{errors::invalid_request, workers::Workers};
use crate::{
    domain::{
        call_context::CallContext,
        error::Error,
        listing::{Cursor, Listed},
        page_token::{Purpose, RequestDigest, TokenKey},
        service::Service,
    },
    trace::Span,
};

/// Default page size, in items.
const USUAL_PAGE: i32 = 50;
/// Maximum page size, in items.
pub(crate) const LARGEST_PAGE: i32 = 1000;
/// Pages of more items are read and converted on a worker.
const LARGE_PAGE: usize = 100;
/// Pages with more text bytes are read and converted on a worker.
const LARGE_PAGE_BYTES: usize = 128 * 1024;
/// Bytes of a message that are reserved for the next page token.
const TOKEN_ROOM: usize = 4096;
/// Overhead of an item in a message, in bytes: a tag and a length.
const ITEM_ROOM: usize = 8;

/// The payload of a page token.
#[derive(Clone, PartialEq, Eq, Message)]
struct Token {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(string, tag = "2")]
    username: String,
    #[prost(int64, tag = "3")]
    update_time: i64,
}

/// Page tokens of one list, bound to its method and its request without page size and token.
pub(super) struct Tokens {
    key: TokenKey,
    purpose: Purpose,
    request: RequestDigest,
}

impl Tokens {
    pub(super) fn new(key: TokenKey, purpose: Purpose, request: &impl Message) -> Self {
        Self { key, purpose, request: digest(request) }
    }

    pub(super) fn issue(&self, position: Cursor) -> String {
        let Cursor { username, update_time, id } = position;
        let token = Token { id, username, update_time };
        self.key.seal(self.purpose, &self.request, &token.encode_to_vec())
    }

    /// The cursor after which the page begins; `None` for the first page.
    pub(super) fn position(&self, text: &str) -> Result<Option<Cursor>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let payload = self.key.open(self.purpose, &self.request, text);
        let token = payload.and_then(|payload| Token::decode(&*payload).ok());
        let refused = || {
            let other = "was not issued for this list: only page_size may differ";
            self.key.refusal(self.purpose, &self.request, text, other)
        };
        let Token { id, username, update_time } =
            token.ok_or_else(|| invalid_request("page_token", refused()))?;
        Ok(Some(Cursor { username, update_time, id }))
    }
}

/// An item of a page.
pub(super) trait Measured {
    /// The length in a message, in bytes.
    fn length(&self) -> usize;
}

impl<M: Message> Measured for M {
    fn length(&self) -> usize {
        self.encoded_len()
    }
}

/// A list query with its page size and its page tokens.
pub(crate) struct Paged<Q> {
    /// The query. Its limit is one item above the page size, to detect a next page.
    pub(super) query: Q,
    pub(super) size: usize,
    pub(super) tokens: Tokens,
}

impl Paged<()> {
    /// Begins a page of an administrative list. Returns the cursor after which the page begins; `None`
    /// for the first page. `request` is without the page size and the page token.
    ///
    /// # Errors
    /// The page size or the page token is invalid, or the storage fails.
    pub(super) async fn begin(
        (service, call): (&Service, &CallContext),
        purpose: Purpose,
        request: &impl Message,
        (size, token): (i32, String),
    ) -> Result<(Self, Option<Cursor>), Error> {
        let size = page_size(size)?;
        let tokens = Tokens::new(service.store.token_key(call).await?, purpose, request);
        let after = tokens.position(&token)?;
        Ok((Self { query: (), size, tokens }, after))
    }

    /// The limit of the query: one item more than the page, to detect a next page.
    pub(super) fn limit(&self) -> u64 {
        self.size as u64 + 1
    }
}

impl<Q> Paged<Q> {
    /// Whether the page may have many items.
    pub(super) fn is_large(&self) -> bool {
        self.size > LARGE_PAGE
    }

    /// Fills a page up to its size and up to `limit` bytes, but with at least one item. Returns the
    /// items and the next page token, which is empty for the last page.
    pub(super) fn page<T, M: Measured>(
        self,
        Listed { items, is_cut }: Listed<T>,
        limit: usize,
        position: impl Fn(&T) -> Cursor,
        convert: impl Fn(T) -> M,
    ) -> (Vec<M>, String) {
        let mut page = Vec::with_capacity(items.len());
        let mut room = limit.saturating_sub(TOKEN_ROOM);
        let mut last = None;
        for item in items {
            let place = position(&item);
            let item = convert(item);
            let length = item.length() + ITEM_ROOM;
            if let Some(last) = last
                && (page.len() == self.size || length > room)
            {
                return (page, self.tokens.issue(last));
            }
            room = room.saturating_sub(length);
            page.push(item);
            last = Some(place);
        }
        let token = last.filter(|_| is_cut).map(|last| self.tokens.issue(last));
        (page, token.unwrap_or_default())
    }
}

/// Reads and converts a page with up to `limit` text bytes. `read` gets the number of text bytes at
/// which reading stops. `workers` has the call's span, and is `None` on a worker.
///
/// Without a worker, only pages with short texts are read, unless `is_large`: a longer page is
/// dropped and read again on a worker. Calls that wait for a worker hold no page.
///
/// # Errors
/// The errors of `read` and of [`Workers::run`].
pub(super) async fn read_page<T, M, F>(
    workers: Option<(&Workers, &Span)>,
    is_large: bool,
    limit: usize,
    read: impl Fn(usize) -> F + Send + 'static,
    convert: impl FnOnce(Listed<T>) -> M + Send + 'static,
) -> Result<M, Error>
where
    F: Future<Output = Result<Listed<T>, Error>> + Send,
    M: Send + 'static,
{
    let Some((workers, span)) = workers else { return Ok(convert(read(limit).await?)) };
    if !is_large {
        let page = read(LARGE_PAGE_BYTES.min(limit)).await?;
        if !page.is_cut {
            return Ok(convert(page));
        }
    }
    workers.run(span, async move { Ok(convert(read(limit).await?)) }).await?
}

pub(super) fn page_size(asked: i32) -> Result<usize, Error> {
    let size = if asked == 0 { USUAL_PAGE } else { asked.min(LARGEST_PAGE) };
    usize::try_from(size).map_err(|_| invalid_request("page_size", "is negative"))
}

/// The digest of a request without its token.
pub(super) fn digest(request: &impl Message) -> RequestDigest {
    Sha256::digest(request.encode_to_vec()).into()
}

/// Converts a time; `None` stays `None`.
pub(super) fn time(
    time: Option<Timestamp>,
    field: &'static str,
) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(time) = time else { return Ok(None) };
    let nanos = u32::try_from(time.nanos).ok();
    let time = nanos.and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
    // protobuf allows the years 1 to 9999.
    let time = time.filter(|time| (-62_135_596_800..253_402_300_800).contains(&time.timestamp()));
    time.map(Some).ok_or_else(|| invalid_request(field, "is no time"))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{domain::page_token::KEY_LENGTH, proto::ListUserDetailsRequest};

    fn paged(request: &ListUserDetailsRequest, size: usize) -> Paged<()> {
        let key = TokenKey::new(&[0; KEY_LENGTH]);
        Paged { query: (), size, tokens: Tokens::new(key, Purpose::ListUsers, request) }
    }

    #[tokio::test]
    async fn pages_with_long_texts_are_read_again_and_converted_on_a_worker() {
        const LIMIT: usize = 4 * LARGE_PAGE_BYTES;
        let workers = Workers::new();
        for (text, is_large, on_worker) in [
            (1000, false, false),
            (LARGE_PAGE_BYTES / 10 - 1, false, false),
            (LARGE_PAGE_BYTES / 10 + 1, false, true),
            (1000, true, true),
        ] {
            let read = move |max_bytes| async move {
                let items: Vec<_> = (1..=10).filter(|number| number * text <= max_bytes).collect();
                Ok(Listed { is_cut: items.len() < 10, items })
            };
            let convert = |page: Listed<_>| (page.items.len(), thread::current().id());
            let page =
                read_page(Some((&*workers, &Span::default())), is_large, LIMIT, read, convert)
                    .await
                    .unwrap();
            assert_eq!(page.0, 10, "{text}");
            assert_eq!(page.1 != thread::current().id(), on_worker, "{text}");
            let page = read_page(None, is_large, LIMIT, read, convert).await.unwrap();
            assert_eq!(page, (10, thread::current().id()), "{text}");
        }
    }

    #[test]
    fn a_page_has_as_many_items_as_fit_in_a_message_and_one_at_least() {
        let request = ListUserDetailsRequest::default();
        let texts = |sizes: &[usize]| sizes.iter().map(|size| "x".repeat(*size)).collect();
        let at = |id: usize| Cursor { username: String::new(), update_time: 0, id: id as i64 };
        for (sizes, expected, more) in [
            (&[100; 5][..], 5, false),
            (&[100; 6], 5, true),
            (&[40_000, 40_000, 40_000], 2, true),
            (&[40_000, 40_000], 2, false),
            (&[200_000, 1], 1, true),
            (&[], 0, false),
        ] {
            let items: Vec<String> = texts(sizes);
            let items = Listed { items, is_cut: false };
            let (page, token) =
                paged(&request, 5).page(items, 100_000, |item| at(item.len()), |item| item);
            assert_eq!((page.len(), !token.is_empty()), (expected, more), "{sizes:?}");
            if more {
                let next = paged(&request, 5).tokens.position(&token).unwrap().unwrap();
                assert_eq!(next.id, at(page[expected - 1].len()).id);
            }
        }
    }

    #[test]
    fn a_page_whose_reading_was_cut_has_a_next_page() {
        for is_cut in [false, true] {
            let paged = paged(&ListUserDetailsRequest::default(), 50);
            let items = Listed { items: vec!["x".to_owned()], is_cut };
            let position = |_: &_| Cursor { username: String::new(), update_time: 0, id: 1 };
            let (_, token) = paged.page(items, 100_000, position, |item| item);
            assert_eq!(!token.is_empty(), is_cut);
        }
    }
}
