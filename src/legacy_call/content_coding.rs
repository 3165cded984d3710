//! Content codings of bodies: gzip and deflate (RFC 9110, section 8.4.1).

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

use super::body::{Refused, Unreadable};

/// The number of bytes that are decoded between two checks of the limits.
const STEP: usize = 8 * 1024;

/// Decodes a body of up to `limit` decoded bytes. `reserve` acquires budget for each step.
///
/// # Errors
/// [`Refused::TooLarge`] over the limit, [`Refused::Overloaded`] if `reserve` fails. The inner
/// error means an unknown coding or an invalid body.
pub(crate) fn decode(
    headers: &HeaderMap,
    body: Bytes,
    limit: usize,
    reserve: impl FnMut(usize) -> bool,
) -> Result<Result<Bytes, Unreadable>, Refused> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let (Some(coding), others) = (codings.next(), codings.next()) else { return Ok(Ok(body)) };
    if body.is_empty() {
        return Ok(Ok(body));
    }
    let coding = coding.to_str().unwrap_or_default().trim();
    let name = if others.is_some() { String::new() } else { coding.to_ascii_lowercase() };
    match name.as_str() {
        "identity" => Ok(Ok(body)),
        "gzip" | "x-gzip" => inflate(MultiGzDecoder::new(&*body), "gzip", limit, reserve),
        // Some clients send deflate without the zlib header that RFC 9110 requires.
        "deflate" if is_zlib(&body) => {
            let mut decoder = ZlibDecoder::new(&*body);
            let decoded = inflate(&mut decoder, "deflate", limit, reserve)?;
            Ok(decoded.and_then(|decoded| whole(decoder.into_inner(), decoded)))
        }
        "deflate" => {
            let mut decoder = DeflateDecoder::new(&*body);
            let decoded = inflate(&mut decoder, "deflate", limit, reserve)?;
            Ok(decoded.and_then(|decoded| whole(decoder.into_inner(), decoded)))
        }
        _ => Ok(Err(Unreadable::coding(coding))),
    }
}

/// Whether a body begins with a zlib header: RFC 1950, section 2.2.
fn is_zlib(body: &[u8]) -> bool {
    let [method, flags, ..] = body else { return false };
    method & 0x0F == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
}

/// Refuses bytes after the end of the compressed data.
fn whole(rest: &[u8], decoded: Bytes) -> Result<Bytes, Unreadable> {
    if rest.is_empty() { Ok(decoded) } else { Err(Unreadable::BrokenCoding("deflate")) }
}

fn inflate(
    mut decoder: impl Read,
    coding: &'static str,
    limit: usize,
    mut reserve: impl FnMut(usize) -> bool,
) -> Result<Result<Bytes, Unreadable>, Refused> {
    let mut decoded = Vec::new();
    let mut step = [0; STEP];
    loop {
        match decoder.read(&mut step) {
            Ok(0) => return Ok(Ok(decoded.into())),
            Ok(length) if decoded.len() + length > limit => return Err(Refused::TooLarge),
            Ok(length) if !reserve(length) => return Err(Refused::Overloaded),
            Ok(length) => decoded.extend_from_slice(&step[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(Err(Unreadable::BrokenCoding(coding))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
        let level = Compression::best();
        match coding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "zlib" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            _ => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn decoded(coding: &str, body: &[u8]) -> Result<Result<Bytes, Unreadable>, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        decode(&headers, Bytes::copy_from_slice(body), 100_000, |_| true)
    }

    #[test]
    fn each_coding_is_decoded() {
        let text = "city=Kaunas&".repeat(1000).into_bytes();
        for (coding, format) in
            [("gzip", "gzip"), ("X-GZIP", "gzip"), ("deflate", "zlib"), ("deflate", "raw")]
        {
            assert_eq!(decoded(coding, &coded(format, &text)), Ok(Ok(text.clone().into())));
        }
        let two_members = [coded("gzip", b"city="), coded("gzip", b"York")].concat();
        assert_eq!(decoded("gzip", &two_members), Ok(Ok("city=York".into())));
        assert_eq!(decoded("identity", &text), Ok(Ok(text.into())));
        assert_eq!(decoded("br", b""), Ok(Ok(Bytes::new())));
    }

    #[test]
    fn a_body_that_is_cut_or_followed_by_more_is_broken() {
        for (coding, format) in [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "raw")] {
            let whole = coded(format, &b"city=Kaunas".repeat(9));
            let broken = Ok(Err(Unreadable::BrokenCoding(coding)));
            for length in 1..whole.len() {
                assert_eq!(decoded(coding, &whole[..length]), broken, "{format} {length}");
            }
            let more = [whole.as_slice(), b"x"].concat();
            assert_eq!(decoded(coding, &more), broken, "{format}");
        }
        assert_eq!(decoded("br", b"x"), Ok(Err(Unreadable::Coding("br".to_owned()))));
        assert_eq!(decoded("gzip, gzip", b"x"), Ok(Err(Unreadable::coding("gzip, gzip"))));
    }

    #[test]
    fn a_bomb_is_decoded_only_up_to_the_limit() {
        for (coding, format) in [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "raw")] {
            let bomb = coded(format, &vec![b'x'; 50_000_000]);
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
            let mut reserved = 0;
            let reserve = |bytes| {
                reserved += bytes;
                true
            };
            let refused = decode(&headers, bomb.clone().into(), 100_000, reserve);
            assert_eq!(refused, Err(Refused::TooLarge));
            assert!(reserved <= 100_000);
            let refused = decode(&headers, bomb.into(), 100_000, |_| false);
            assert_eq!(refused, Err(Refused::Overloaded));
        }
    }
}
