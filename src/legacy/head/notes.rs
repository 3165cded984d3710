//! What the reader of a connection's heads tells about its requests.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Extensions, StatusCode};

use crate::budget::BytesPermit;

/// The reason why a head was refused: an extension of the request that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It breaks the rules of HTTP.
    Malformed,
    /// It is too large, or has too many header fields.
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

/// The permit for the bytes of a large head: an extension of its request, whose parts share the memory
/// of the head.
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
/// hyper makes one request of each head, in the order of the heads. So requests and notes are
/// matched by their number, and nothing that a client sends can forge a note.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// How many heads were passed on.
    heads: u64,
    /// How many of them have become requests.
    requests: u64,
    /// Notes, each with the number of its head.
    notes: VecDeque<(u64, Note)>,
}

impl Notes {
    /// Counts a head that is passed on, with its note if there is one.
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
