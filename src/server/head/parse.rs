//! Parses a head with hyper's parser, and accepts or refuses the head.

use std::mem::MaybeUninit;

use http::uri::PathAndQuery;
use httparse::{Request, Status};

use super::{
    MAX_FIELD_COUNT, MAX_FIELDS, MAX_HEAD, MAX_METHOD, MAX_URI, Refusal, framing::Framing,
};

/// A valid head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The framing of the body.
    pub(super) framing: Framing,
    /// The target, only if its query string must be taken out.
    pub(super) long_target: Option<LongTarget>,
}

/// A target that is too long for [`http::Uri`], as offsets in the head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LongTarget {
    /// The `?`.
    pub(super) mark: usize,
    /// The end of the query string.
    pub(super) query_end: usize,
    /// The end of the target.
    pub(super) end: usize,
}

/// The length of the first head in `bytes`, with its empty line. Earlier calls have searched the
/// first `searched` bytes.
pub(super) fn end(bytes: &[u8], searched: &mut usize) -> Option<usize> {
    // The empty line may begin in the searched bytes.
    let from = searched.saturating_sub(2);
    *searched = bytes.len();
    let mut at = from;
    while let Some(next) = memchr::memchr(b'\n', &bytes[at..]) {
        at += next + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Checks the beginning of an incomplete head.
///
/// # Errors
/// The head cannot become valid.
pub(super) fn check_beginning(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > MAX_HEAD {
        return Err(Refusal::TooLarge);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELD_COUNT];
    let parsed = Request::new(&mut []).parse_with_uninit_headers(bytes, &mut fields);
    parsed.map(drop).map_err(refusal)
}

/// Parses a complete head.
///
/// # Errors
/// The reason to refuse it.
pub(super) fn head(bytes: &[u8]) -> Result<Head, Refusal> {
    if bytes.len() > MAX_HEAD {
        return Err(Refusal::TooLarge);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELD_COUNT];
    let mut request = Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields).map_err(refusal)?;
    let (Status::Complete(length), Some(method), Some(target), Some(version)) =
        (parsed, request.method, request.path, request.version)
    else {
        return Err(Refusal::Malformed);
    };
    if length != bytes.len() || method.len() > MAX_METHOD {
        return Err(Refusal::Malformed);
    }
    if bytes.len() - target.len() > MAX_FIELDS {
        return Err(Refusal::TooLarge);
    }
    let framing =
        Framing::of_request(version == 0, request.headers).map_err(|_| Refusal::Malformed)?;
    if target.len() <= MAX_URI {
        let valid = http::Uri::try_from(target).is_ok();
        let head = Head { framing, long_target: None };
        return if valid { Ok(head) } else { Err(Refusal::Malformed) };
    }
    // httparse requires exactly one space after the method.
    let start = method.len() + 1;
    if bytes.get(start..start + target.len()) != Some(target.as_bytes()) {
        return Err(Refusal::Malformed);
    }
    let long_target = long_target(start, target)?;
    Ok(Head { framing, long_target: Some(long_target) })
}

/// The parts of a long target that begins at `start`.
fn long_target(start: usize, target: &str) -> Result<LongTarget, Refusal> {
    let without_fragment = target.split('#').next().unwrap_or_default();
    let mark = without_fragment.find('?').filter(|mark| *mark <= MAX_URI);
    let (path, query) = match mark {
        Some(mark) => without_fragment.split_at(mark),
        None => return Err(Refusal::TooLarge),
    };
    if http::Uri::try_from(path).is_err() || !is_query(&query[1..]) {
        return Err(Refusal::Malformed);
    }
    Ok(LongTarget {
        mark: start + path.len(),
        query_end: start + without_fragment.len(),
        end: start + target.len(),
    })
}

/// Whether a query string of any length has only characters that [`http::Uri`] accepts.
pub(crate) fn is_query(query: &str) -> bool {
    let mut rest = query;
    while !rest.is_empty() {
        let (part, others) = rest.split_at(rest.floor_char_boundary(MAX_URI / 2));
        if part.contains('#') || PathAndQuery::try_from(format!("/?{part}")).is_err() {
            return false;
        }
        rest = others;
    }
    true
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooLarge,
        _ => Refusal::Malformed,
    }
}

/// A small substitute for a refused head.
///
/// The substitute keeps a known method and version: the answer to HEAD has no body, and the answer
/// to HTTP/1.0 is HTTP/1.0.
pub(super) fn substitute(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let method = match words.next() {
        Some(b"GET") => "GET",
        Some(b"HEAD") => "HEAD",
        Some(b"POST") => "POST",
        Some(b"PUT") => "PUT",
        Some(b"PATCH") => "PATCH",
        Some(b"DELETE") => "DELETE",
        _ => "UNKNOWN",
    };
    let is_http_10 = words.next_back().is_some_and(|version| version.starts_with(b"HTTP/1.0"));
    let version = if is_http_10 { "1.0" } else { "1.1" };
    format!("{method} / HTTP/{version}\r\nconnection: close\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_however_its_bytes_arrive() {
        for (head, length) in [
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nrest", Some(24)),
            ("GET / HTTP/1.1\nA: b\n\nrest", Some(21)),
            ("GET / HTTP/1.1\n\r\nrest", Some(17)),
            ("GET / HTTP/1.1\r\nA: b\r\n", None),
        ] {
            for step in 1..head.len() {
                let mut searched = 0;
                let mut found = None;
                for seen in (step..head.len()).step_by(step).chain([head.len()]) {
                    found = found.or(end(&head.as_bytes()[..seen], &mut searched));
                }
                assert_eq!(found, length, "{head:?} {step}");
            }
        }
    }

    #[test]
    fn a_head_is_refused_by_its_fault() {
        let many = "A: b\r\n".repeat(101);
        let most = "A: b\r\n".repeat(100);
        let long = "x".repeat(70_000);
        let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
        for (sent, refused) in [
            (get("/", &most), None),
            (get("/", &many), Some(Refusal::TooLarge)),
            (get("/", &format!("A: {long}\r\n")), Some(Refusal::TooLarge)),
            (get(&format!("/?{long}"), ""), None),
            (get(&format!("http://host/?{long}#f"), ""), None),
            (get(&format!("/{long}?x"), ""), Some(Refusal::TooLarge)),
            (get(&format!("/?{}", long.repeat(4)), ""), Some(Refusal::TooLarge)),
            (get(&format!("/?{long}<"), ""), Some(Refusal::Malformed)),
            (get("/?<", ""), Some(Refusal::Malformed)),
            (get("nowhere/x", ""), Some(Refusal::Malformed)),
            (get("/\u{1}", ""), Some(Refusal::Malformed)),
            (get("/", "A b\r\n"), Some(Refusal::Malformed)),
            (get("/", "A: \u{1}\r\n"), Some(Refusal::Malformed)),
            (get("/", "A: b\r\n folded\r\n"), Some(Refusal::Malformed)),
            (get("/", "Content-Length: x\r\n"), Some(Refusal::Malformed)),
            ("GET  / HTTP/1.1\r\n\r\n".to_owned(), Some(Refusal::Malformed)),
            ("GET / HTTP/3.0\r\n\r\n".to_owned(), Some(Refusal::Malformed)),
            ("PRI * HTTP/2.0\r\n\r\n".to_owned(), Some(Refusal::Malformed)),
            ("\u{16}\u{3}\u{1}\n\n".to_owned(), Some(Refusal::Malformed)),
        ] {
            let shown = &sent[..sent.len().min(80)];
            assert_eq!(head(sent.as_bytes()).err(), refused, "{shown:?}");
        }
    }

    #[test]
    fn long_queries_have_the_characters_of_short_ones() {
        for text in ["a=b&c=%41", "ž=š", "a\"b", "a<b", "a b", "a#b", "a{b}", "\u{7f}"] {
            let is_valid = http::Uri::try_from(format!("/?{text}")).is_ok() && !text.contains('#');
            assert_eq!(is_query(text), is_valid, "{text}");
            assert_eq!(is_query(&("ž".repeat(40_000) + text)), is_valid, "{text}");
        }
    }
}
