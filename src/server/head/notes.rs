//! Notes of the head reader about a connection's requests.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Extensions, StatusCode};

use crate::budget::BytesPermit;

/// The reason why a head was refused: an extension of the substitute request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The head breaks the rules of HTTP.
    Malformed,
    /// The head is too large, or has too many header fields.
    TooLarge,
    /// The byte budget is exhausted.
    Overloaded,
}

impl Refusal {
    /// The status of the answer.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

/// The query string of a target that is too long for [`http::Uri`]: an extension of its request.
#[derive(Clone, Debug)]
pub(crate) struct LongQuery {
    query: Bytes,
    /// The bytes count in the budget as long as the request lives.
    _permit: Option<Arc<BytesPermit>>,
}

impl LongQuery {
    /// A query string with the permit for its bytes.
    pub(crate) fn new(query: Bytes, permit: Option<BytesPermit>) -> Self {
        Self { query, _permit: permit.map(Arc::new) }
    }

    /// The query string.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.query
    }
}

/// The permit for a large head: an extension of its request, because the request shares the head's
/// memory.
#[derive(Clone, Debug)]
pub(super) struct LargeHead {
    _permit: Arc<BytesPermit>,
}

impl LargeHead {
    pub(super) fn new(permit: BytesPermit) -> Self {
        Self { _permit: Arc::new(permit) }
    }
}

/// A note about one request.
#[derive(Debug)]
pub(super) enum Note {
    Refused(Refusal),
    Large(LargeHead),
    LongQuery(LongQuery),
}

/// The notes about the requests of one connection.
///
/// hyper makes one request from each head, in order. So a number matches each note to its request,
/// and a client cannot forge a note.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// The number of heads that were passed on.
    heads: u64,
    /// The number of requests that were received.
    requests: u64,
    /// Notes, each with the number of its head.
    notes: VecDeque<(u64, Note)>,
}

impl Notes {
    /// Counts a head that is passed on, and stores its note.
    pub(super) fn head(&self, note: Option<Note>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inner.heads;
        inner.heads += 1;
        if let Some(note) = note {
            inner.notes.push_back((number, note));
        }
    }

    /// Counts a request and adds its note to its extensions.
    pub(crate) fn request(&self, extensions: &mut Extensions) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inner.requests;
        inner.requests += 1;
        match inner.notes.pop_front_if(|(head, _)| *head == number) {
            Some((_, Note::Refused(refusal))) => _ = extensions.insert(refusal),
            Some((_, Note::Large(head))) => _ = extensions.insert(head),
            Some((_, Note::LongQuery(query))) => _ = extensions.insert(query),
            None => {}
        }
    }
}
