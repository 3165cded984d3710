//! Reads a body within its limit and the byte budget of its connection.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body as _;

use crate::{
    budget::{BytesPermit, ConnectionBudget},
    legacy_call::{
        body::{Refused, Unreadable},
        content_coding,
    },
};

/// Reads one body. Its bytes count in the budget until the reader is dropped.
pub(super) struct BodyReader {
    limit: usize,
    /// None without a budget: nothing is counted.
    permit: Option<BytesPermit>,
}

impl BodyReader {
    /// A reader of bodies of up to `limit` bytes, encoded and decoded.
    ///
    /// # Errors
    /// [`Refused::Overloaded`].
    pub(super) fn new(
        limit: usize,
        budget: Option<&Arc<ConnectionBudget>>,
    ) -> Result<Self, Refused> {
        let acquire = |budget: &Arc<ConnectionBudget>| budget.try_acquire(0);
        let permit = budget.map(|budget| acquire(budget).ok_or(Refused::Overloaded)).transpose()?;
        Ok(Self { limit, permit })
    }

    /// Reads a body, without decoding it.
    ///
    /// # Errors
    /// The reason to stop.
    pub(super) async fn read(&mut self, mut body: Body) -> Result<Bytes, Refused> {
        let limit = u64::try_from(self.limit).unwrap_or(u64::MAX);
        if body.size_hint().lower() > limit {
            return Err(Refused::TooLarge);
        }
        // Most bodies are one frame, which is not copied.
        let mut first = Bytes::new();
        let mut joined: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refused::Broken)?.into_data() else { continue };
            if first.len().max(joined.len()) + data.len() > self.limit {
                return Err(Refused::TooLarge);
            }
            if !reserve(self.permit.as_mut(), data.len()) {
                return Err(Refused::Overloaded);
            }
            if joined.is_empty() && first.is_empty() {
                first = data;
                continue;
            }
            if joined.is_empty() {
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            // Allocates no more than the budget counts.
            joined.reserve_exact(data.len());
            joined.extend_from_slice(&data);
        }
        Ok(if joined.is_empty() { first } else { joined.into() })
    }

    /// Decodes the content coding of a body.
    ///
    /// # Errors
    /// The reason to stop. The inner error is a body that cannot be decoded.
    pub(super) fn decode(
        &mut self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Result<Bytes, Unreadable>, Refused> {
        let Self { limit, permit } = self;
        content_coding::decode(headers, body, *limit, |bytes| reserve(permit.as_mut(), bytes))
    }
}

fn reserve(permit: Option<&mut BytesPermit>, bytes: usize) -> bool {
    permit.is_none_or(|permit| permit.try_grow(bytes))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::budget::{CONNECTION_RESERVE, MemoryBudget};

    fn frames(frames: &[&'static [u8]]) -> Body {
        let frames: Vec<_> = frames.iter().map(|frame| Ok::<_, std::io::Error>(*frame)).collect();
        Body::from_stream(stream::iter(frames))
    }

    #[tokio::test]
    async fn frames_are_joined_up_to_the_limit() {
        for (sent, read) in [
            (frames(&[]), Ok("")),
            (frames(&[b"city=York"]), Ok("city=York")),
            (frames(&[b"city", b"", b"=Y", b"ork"]), Ok("city=York")),
            (frames(&[b"city", b"=York1"]), Ok("city=York1")),
            (frames(&[b"city", b"=York12"]), Err(Refused::TooLarge)),
            (Body::from("city=York12"), Err(Refused::TooLarge)),
        ] {
            let mut reader = BodyReader::new(10, None).unwrap();
            assert_eq!(reader.read(sent).await, read.map(Bytes::from));
        }
    }

    #[tokio::test]
    async fn a_body_counts_in_the_budget_until_its_reader_is_dropped() {
        let process = MemoryBudget::new(2000);
        let budget = process.connection();
        let _rest = budget.try_acquire(CONNECTION_RESERVE).unwrap();
        let mut reader = BodyReader::new(5000, Some(&budget)).unwrap();
        reader.read(frames(&[&[0; 500], &[0; 400]])).await.unwrap();
        assert_eq!(process.used(), 900);
        let mut other = BodyReader::new(5000, Some(&budget)).unwrap();
        let refused = other.read(frames(&[&[0; 60], &[0; 60]])).await;
        assert_eq!(refused, Err(Refused::Overloaded));
        drop((reader, other));
        assert_eq!(process.used(), 0);
    }
}
