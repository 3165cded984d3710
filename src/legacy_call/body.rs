//! The parameters in a body: a form, multipart, or JSON.

use std::fmt;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, header::CONTENT_TYPE};
use memchr::memmem;
use multer::Multipart;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use super::parameters::{RawParameter, Take, from_form};

/// The most members of a JSON object, and the most parts of multipart, in one body.
///
/// The call has fewer than 100 parameters. The limit bounds the memory per byte of a body.
pub(crate) const MAX_MEMBERS: usize = 1000;
/// The longest media type or content coding that a message repeats, in bytes.
const MAX_QUOTED: usize = 64;
/// The longest boundary: RFC 2046, section 5.1.1.
pub(crate) const MAX_BOUNDARY: usize = 70;
/// The byte order mark of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Why a body is not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The body is larger than the limit.
    TooLarge,
    /// The body's framing is broken, or the body ends early.
    Broken,
    /// The byte budget is exhausted.
    Overloaded,
}

/// Why a body could not be read. The text never repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The media type is not supported.
    #[error(
        "body could not be read: the type {0} is not supported, only application/x-www-form-urlencoded, \
         multipart/form-data and application/json"
    )]
    Type(String),
    /// The content coding is not supported.
    #[error(
        "body could not be read: the content coding {0} is not supported, only gzip and deflate"
    )]
    Coding(String),
    /// The content coding's decoder failed.
    #[error("body could not be read: it is not valid {0}, or cut off")]
    BrokenCoding(&'static str),
    /// The JSON is invalid.
    #[error("body could not be read: the JSON is broken at line {line}, column {column}")]
    BrokenJson {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// The JSON ends early.
    #[error("body could not be read: the JSON is cut off")]
    CutJson,
    /// The JSON is not an object.
    #[error("body could not be read: the JSON is not an object")]
    NotAnObject,
    /// Multipart without a boundary, or with a boundary that is too long.
    #[error(
        "body could not be read: the type multipart/form-data has no boundary of 1 to 70 characters"
    )]
    NoBoundary,
    /// The multipart body is malformed, or its last boundary is missing.
    #[error("body could not be read: the multipart body is broken or cut off")]
    Multipart,
    /// Too many JSON members or parts.
    #[error("body could not be read: it has more than 1000 parameters")]
    TooMany,
}

impl Unreadable {
    /// An unsupported media type.
    fn media_type(name: &str) -> Self {
        Self::Type(quoted(name))
    }

    /// An unsupported content coding.
    pub(crate) fn coding(name: &str) -> Self {
        Self::Coding(quoted(name))
    }
}

/// The name if a message may repeat it, else a placeholder.
fn quoted(name: &str) -> String {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"/+-._,".contains(&byte);
    if !name.is_empty() && name.len() <= MAX_QUOTED && name.bytes().all(is_name) {
        name.to_owned()
    } else {
        "that was sent".to_owned()
    }
}

/// The parameters of a body. A body without a content type is a form.
///
/// # Errors
/// The body is not empty and cannot be read.
pub(crate) async fn parameters<T: Take>(headers: &HeaderMap, body: Bytes) -> Result<T, Unreadable> {
    let body = match body.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => body.slice_ref(text),
        None => body,
    };
    if body.is_empty() {
        return Ok(T::default());
    }
    let content_type = match headers.get(CONTENT_TYPE) {
        Some(content_type) => content_type.to_str().map_err(|_| Unreadable::media_type(""))?,
        None => "",
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "" | "application/x-www-form-urlencoded" => Ok(from_form(&body)),
        "application/json" => json(&body),
        "multipart/form-data" => multipart(content_type, body).await,
        _ => Err(Unreadable::media_type(essence)),
    }
}

/// One flat object of strings, numbers, booleans or nulls.
fn json<T: Take>(body: &[u8]) -> Result<T, Unreadable> {
    let members: Members =
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Eof => Unreadable::CutJson,
            Category::Data => Unreadable::NotAnObject,
            Category::Syntax | Category::Io => {
                Unreadable::BrokenJson { line: error.line(), column: error.column() }
            }
        })?;
    if members.too_many {
        return Err(Unreadable::TooMany);
    }
    let mut taken = T::default();
    for (name, value) in members.read {
        let text = value.get();
        taken.take(name.as_bytes(), || match text.as_bytes().first() {
            Some(b'n') => None,
            Some(b't') => Some(RawParameter::Text("1".to_owned())),
            Some(b'f') => Some(RawParameter::Text("0".to_owned())),
            // A string may hold half of a surrogate pair.
            Some(b'"') => {
                Some(serde_json::from_str(text).map_or(RawParameter::NotUtf8, RawParameter::Text))
            }
            Some(b'{' | b'[') => Some(RawParameter::Nested),
            _ => Some(RawParameter::Number(text.to_owned())),
        });
    }
    Ok(taken)
}

/// The members of a JSON object in their order, duplicates included.
#[derive(Default)]
struct Members<'a> {
    read: Vec<(String, &'a RawValue)>,
    too_many: bool,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, text: &mut fmt::Formatter) -> fmt::Result {
                text.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while members.read.len() < MAX_MEMBERS {
                    let Some(member) = map.next_entry()? else { return Ok(members) };
                    members.read.push(member);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    members.too_many = true;
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The text parts of a form; files are ignored.
async fn multipart<T: Take>(content_type: &str, body: Bytes) -> Result<T, Unreadable> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| Unreadable::NoBoundary)?;
    if boundary.len() > MAX_BOUNDARY {
        return Err(Unreadable::NoBoundary);
    }
    let is_closed = memmem::find(&body, format!("--{boundary}--").as_bytes()).is_some();
    let whole = stream::iter([Ok::<_, std::convert::Infallible>(body)]);
    let mut parts = Multipart::new(whole, boundary);
    let mut taken = T::default();
    let mut count = 0;
    while let Some(part) = parts.next_field().await.map_err(|_| Unreadable::Multipart)? {
        count += 1;
        if count > MAX_MEMBERS {
            return Err(Unreadable::TooMany);
        }
        if part.file_name().is_some() {
            continue;
        }
        if let Some(name) = part.name().map(str::to_owned) {
            let bytes = part.bytes().await.map_err(|_| Unreadable::Multipart)?;
            taken.take(name.as_bytes(), || Some(RawParameter::from_bytes(bytes.into())));
        }
    }
    if is_closed { Ok(taken) } else { Err(Unreadable::Multipart) }
}
