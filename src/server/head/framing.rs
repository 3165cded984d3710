//! Where a request's body ends: RFC 9112, section 6.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

/// The body's framing is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// The number of bytes left.
    Length(u64),
    /// The position in the chunks.
    Chunked(Chunk),
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the size of a chunk, after `digits` digits.
    Size { size: u64, digits: u8 },
    /// After the size, up to CR.
    Extension(u64),
    /// Before the LF after a size.
    SizeLf(u64),
    /// The number of data bytes left.
    Data(u64),
    /// Before the CR after data.
    DataCr,
    /// Before the LF after data.
    DataLf,
    /// At the start of a line of the trailer section.
    TrailerStart,
    /// Within a trailer field, up to CR.
    Trailer,
    /// Before the LF after a trailer field.
    TrailerLf,
    /// Before the last LF.
    EndLf,
    /// After the body.
    End,
}

impl Framing {
    /// The framing of a request with these header fields.
    ///
    /// Stricter than RFC 9112: a request has at most one length, or `chunked` as its only transfer
    /// coding.
    pub(super) fn of_request(
        is_http_10: bool,
        fields: &[httparse::Header<'_>],
    ) -> Result<Self, Broken> {
        let mut framing = None;
        for field in fields {
            let own = if field.name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str()) {
                let is_number =
                    !field.value.is_empty() && field.value.iter().all(u8::is_ascii_digit);
                let digits = std::str::from_utf8(field.value).ok().filter(|_| is_number);
                let length = digits.and_then(|digits| digits.parse().ok()).ok_or(Broken)?;
                // hyper reserves the largest numbers for other framings.
                if length > u64::MAX / 2 {
                    return Err(Broken);
                }
                Self::Length(length)
            } else if field.name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str()) {
                if is_http_10 || framing.is_some() || !field.value.eq_ignore_ascii_case(b"chunked")
                {
                    return Err(Broken);
                }
                Self::Chunked(Chunk::Size { size: 0, digits: 0 })
            } else {
                continue;
            };
            if framing.is_some_and(|other| other != own) {
                return Err(Broken);
            }
            framing = Some(own);
        }
        Ok(framing.unwrap_or(Self::Length(0)))
    }

    /// Whether the body is at its end.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::End))
    }

    /// Advances over `bytes` up to the end of the body. Returns the number of bytes in the body.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        match self {
            Self::Length(left) => {
                let (taken, length) = take(*left, bytes.len());
                *left -= length;
                Ok(taken)
            }
            Self::Chunked(chunk) => chunk.advance(bytes),
        }
    }
}

/// The lesser of `left` and `available`, in both types.
fn take(left: u64, available: usize) -> (usize, u64) {
    match usize::try_from(left) {
        Ok(left) if left <= available => (left, left as u64),
        _ => (available, available as u64),
    }
}

impl Chunk {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        while *self != Self::End
            && let Some(&byte) = bytes.get(at)
        {
            if let Self::Data(left) = *self {
                let (taken, length) = take(left, bytes.len() - at);
                at += taken;
                *self = if left == length { Self::DataCr } else { Self::Data(left - length) };
                continue;
            }
            *self = self.after(byte)?;
            at += 1;
        }
        Ok(at)
    }

    /// The position after one byte that is not data.
    fn after(self, byte: u8) -> Result<Self, Broken> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).ok_or(Broken)?;
                // 15 digits cannot overflow.
                if digits == 15 {
                    return Err(Broken);
                }
                Self::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(Broken),
            (Self::Size { size, .. } | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Size { size, .. }, b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Extension(size), byte) if byte != b'\n' => Self::Extension(size),
            (Self::SizeLf(0), b'\n') => Self::TrailerStart,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::TrailerStart, b'\r') => Self::EndLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::TrailerStart | Self::Trailer, byte) if byte != b'\n' => Self::Trailer,
            (Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::EndLf, b'\n') => Self::End,
            _ => return Err(Broken),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> Result<Framing, Broken> {
        let fields: Vec<_> = fields
            .iter()
            .map(|&(name, value)| httparse::Header { name, value: value.as_bytes() })
            .collect();
        Framing::of_request(false, &fields)
    }

    #[test]
    fn ambiguous_framings_are_refused() {
        let chunked = Framing::Chunked(Chunk::Size { size: 0, digits: 0 });
        for (fields, framing) in [
            (vec![("Host", "x")], Ok(Framing::Length(0))),
            (vec![("content-LENGTH", "5")], Ok(Framing::Length(5))),
            (vec![("Content-Length", "5"), ("Content-Length", "5")], Ok(Framing::Length(5))),
            (vec![("Content-Length", "5"), ("Content-Length", "6")], Err(Broken)),
            (vec![("Content-Length", "5, 5")], Err(Broken)),
            (vec![("Content-Length", "+5")], Err(Broken)),
            (vec![("Content-Length", "")], Err(Broken)),
            (vec![("Content-Length", "18446744073709551615")], Err(Broken)),
            (vec![("Transfer-Encoding", "Chunked")], Ok(chunked)),
            (vec![("Transfer-Encoding", "chunked"), ("Content-Length", "5")], Err(Broken)),
            (vec![("Content-Length", "5"), ("Transfer-Encoding", "chunked")], Err(Broken)),
            (vec![("Transfer-Encoding", "gzip, chunked")], Err(Broken)),
            (vec![("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], Err(Broken)),
            (vec![("Transfer-Encoding", "identity")], Err(Broken)),
        ] {
            assert_eq!(of(&fields), framing, "{fields:?}");
        }
        let chunked = httparse::Header { name: "Transfer-Encoding", value: b"chunked" };
        assert_eq!(Framing::of_request(true, &[chunked]), Err(Broken));
    }

    #[test]
    fn the_end_of_a_body_is_found_however_its_bytes_arrive() {
        let body = b"4;a=b\r\nab\r\n\r\nA \r\n0123456789\r\n0\r\nA: b\r\nC: d\r\n\r\n";
        for step in 1..=body.len() + 5 {
            let mut framing = of(&[("Transfer-Encoding", "chunked")]).unwrap();
            let sent = [body.as_slice(), b"GET /"].concat();
            let mut at = 0;
            while !framing.is_at_end() {
                let end = (at + step).min(sent.len());
                at += framing.advance(&sent[at..end]).unwrap();
            }
            assert_eq!(at, body.len(), "{step}");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for body in [
            "zz\r\n",
            "\r\n",
            ";a\r\n",
            "1\nx\r\n",
            "1\r\nxy",
            "1\r\nx\n",
            "0\r\n\n",
            "0\r\nA: b\n",
            "0\r\n\rX",
            "1;a\nb\r\n",
            "0000000000000001\r\n",
        ] {
            let mut framing = of(&[("Transfer-Encoding", "chunked")]).unwrap();
            assert_eq!(framing.advance(body.as_bytes()), Err(Broken), "{body:?}");
        }
    }
}
