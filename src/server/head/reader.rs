//! Reads a connection for hyper, head by head.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::{
    LongQuery, MAX_HEAD, Notes, Refusal,
    framing::Framing,
    notes::{LargeHead, Note},
    parse::{self, Head, LongTarget},
};
use crate::{
    budget::{BytesPermit, ConnectionBudget},
    server::write::write_to_stream,
};

/// The largest read of a head, in bytes.
const STEP: usize = 8 * 1024;

/// The largest read of a body, in bytes. hyper enlarges its buffer, up to the largest head, after
/// each read that fills the buffer.
const MAX_BODY_READ: usize = STEP - 1;

/// A connection whose heads are read before hyper sees them.
#[derive(Debug)]
pub(crate) struct HeadReader<S> {
    stream: S,
    state: State,
    /// Bytes from `stream` that hyper has not taken yet.
    unread: BytesMut,
    /// The length of the valid head in `unread` that hyper takes next, in bytes.
    passed: usize,
    /// A substitute head that hyper takes next.
    replaced: Bytes,
    /// The number of bytes of `unread` that were searched for the end of the head.
    searched: usize,
    /// The number of bytes of `unread` that were parsed without an error.
    checked: usize,
    notes: Notes,
    budget: Option<Arc<ConnectionBudget>>,
    /// The permit for a head in `unread`.
    permit: Option<BytesPermit>,
}

#[derive(Debug)]
enum State {
    /// A head comes next.
    Head,
    /// In a body.
    Body(Framing),
    /// After a refused head. The rest is skipped.
    Refused,
    /// After a broken body, or after a refused head and the client's last byte.
    Ended,
}

impl<S> HeadReader<S> {
    /// Reads `stream`, and adds notes about its requests to `notes`. Heads count in `budget`.
    pub(crate) fn new(stream: S, notes: Notes, budget: Option<Arc<ConnectionBudget>>) -> Self {
        Self {
            stream,
            state: State::Head,
            unread: BytesMut::new(),
            passed: 0,
            replaced: Bytes::new(),
            searched: 0,
            checked: 0,
            notes,
            budget,
            permit: None,
        }
    }

    /// Takes the next head out of `unread`, if it is complete or refused.
    fn next_head(&mut self) {
        // RFC 9112, section 2.2: empty lines before a head are ignored.
        while let [b'\r', b'\n', ..] | [b'\n', ..] = *self.unread {
            self.unread.advance(if self.unread[0] == b'\r' { 2 } else { 1 });
        }
        if let Some(permit) = &mut self.permit {
            permit.shrink_to(self.unread.len());
        }
        if self.unread.is_empty() {
            return;
        }
        let Some(length) = parse::end(&self.unread, &mut self.searched) else {
            // Parsing anew at each doubling keeps the work linear.
            if self.unread.len() > (self.checked * 2).min(MAX_HEAD) {
                self.checked = self.unread.len();
                if let Err(refusal) = parse::check_beginning(&self.unread) {
                    self.refuse(refusal);
                }
            }
            return;
        };
        match parse::head(&self.unread[..length]) {
            Ok(head) => self.accept(length, head),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn accept(&mut self, length: usize, Head { framing, long_target }: Head) {
        let mut permit = self.permit.take();
        match long_target {
            // Small heads are not worth a note for each request.
            None if length <= STEP => {
                self.notes.head(None);
                self.passed = length;
            }
            None => {
                // hyper doubles its buffer, and the request keeps the buffer.
                if permit.as_mut().is_some_and(|permit| !permit.try_resize(2 * length)) {
                    return self.refuse(Refusal::Overloaded);
                }
                self.notes.head(permit.map(|permit| Note::Large(LargeHead::new(permit))));
                self.passed = length;
            }
            Some(LongTarget { mark, query_end, end }) => {
                let head = self.unread.split_to(length).freeze();
                // The query string keeps the head's memory.
                self.unread = BytesMut::from(&*self.unread);
                let query = head.slice(mark + 1..query_end);
                self.notes.head(Some(Note::LongQuery(LongQuery::new(query, permit))));
                self.replaced = [&head[..mark], &head[end..]].concat().into();
            }
        }
        self.state = State::Body(framing);
        (self.searched, self.checked) = (0, 0);
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.notes.head(Some(Note::Refused(refusal)));
        self.replaced = parse::substitute(&self.unread).into();
        self.unread = BytesMut::new();
        self.permit = None;
        self.state = State::Refused;
    }

    /// Passes bytes of a head to hyper. Returns false if there are none.
    fn pass_head(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if !self.replaced.is_empty() {
            let length = self.replaced.len().min(buffer.remaining());
            buffer.put_slice(&self.replaced.split_to(length));
            return true;
        }
        let length = self.passed.min(buffer.remaining());
        if length == 0 {
            return false;
        }
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        self.passed -= length;
        // Frees the memory of a large head.
        if self.passed == 0 && self.unread.is_empty() && self.unread.capacity() > 2 * STEP {
            self.unread = BytesMut::new();
        }
        true
    }

    /// Acquires budget for bytes of a head. Returns whether that succeeds.
    fn reserve(&mut self, bytes: usize) -> bool {
        let Some(budget) = &self.budget else { return true };
        match &mut self.permit {
            Some(permit) => permit.try_grow(bytes),
            None => {
                self.permit = budget.try_acquire(bytes);
                self.permit.is_some()
            }
        }
    }
}

impl<S: AsyncRead + Unpin> HeadReader<S> {
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.unread.reserve(STEP);
        let mut room = (&mut self.unread).limit(STEP);
        let read = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut room))?;
        if read > 0 && !self.reserve(read) {
            self.refuse(Refusal::Overloaded);
        }
        Poll::Ready(Ok(read))
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        mut framing: Framing,
    ) -> Poll<io::Result<()>> {
        let broken = |_| io::Error::new(io::ErrorKind::InvalidData, "the body's chunks are broken");
        self.state = State::Ended;
        if self.unread.is_empty() {
            self.unread.reserve(STEP);
            let mut room = (&mut self.unread).limit(MAX_BODY_READ);
            let read = poll_read_buf(Pin::new(&mut self.stream), context, &mut room);
            if read.is_pending() {
                self.state = State::Body(framing);
            }
            ready!(read)?;
        }
        let most = self.unread.len().min(buffer.remaining()).min(MAX_BODY_READ);
        let taken = framing.advance(&self.unread[..most]).map_err(broken)?;
        buffer.put_slice(&self.unread[..taken]);
        self.unread.advance(taken);
        self.state = State::Body(framing);
        Poll::Ready(Ok(()))
    }

    /// Discards the client's remaining input.
    ///
    /// Hides the end of input from hyper: hyper would drop the answer to the refused head.
    fn poll_skip(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut skipped = [0; 1024];
        loop {
            let mut skipped = ReadBuf::new(&mut skipped);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut skipped))?;
            if skipped.filled().is_empty() {
                self.state = State::Ended;
                return Poll::Pending;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadReader<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.pass_head(buffer) {
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Body(framing) if framing.is_at_end() => this.state = State::Head,
                State::Body(framing) => return this.poll_body(context, buffer, framing),
                State::Refused => return this.poll_skip(context),
                State::Ended => return Poll::Pending,
                State::Head => {
                    this.next_head();
                    if matches!(this.state, State::Head) && ready!(this.poll_head(context))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

write_to_stream!(HeadReader);
