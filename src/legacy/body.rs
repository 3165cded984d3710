//! The parameters in a body: a form, multipart, or JSON. What its type's parser refuses counts as absent.

use std::fmt;

use axum::extract::{FromRequest, Multipart};
use bytes::Bytes;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::parameters::{Given, Take, from_form};

/// The parameters of a body; none where it counts as absent. Without a content type it is a form.
pub(super) async fn parameters<T: Take>(headers: &HeaderMap, body: Bytes) -> Option<T> {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return Some(from_form(&body));
    };
    // Only multipart needs what may follow the type, and reads it itself.
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    match essence.trim().to_ascii_lowercase().as_str() {
        "" | "application/x-www-form-urlencoded" => Some(from_form(&body)),
        "application/json" => json(&body),
        "multipart/form-data" => multipart(headers, body).await,
        _ => None,
    }
}

/// One flat object of strings, numbers, booleans or nulls.
fn json<T: Take>(body: &[u8]) -> Option<T> {
    let Members(members) = serde_json::from_slice(body).ok()?;
    let mut taken = T::default();
    for (name, value) in members {
        let text = value.get();
        taken.take(name.as_bytes(), || match text.as_bytes().first() {
            Some(b'n') => None,
            Some(b't') => Some(Given::Text("1".to_owned())),
            Some(b'f') => Some(Given::Text("0".to_owned())),
            Some(b'"') => Some(serde_json::from_str(text).map_or(Given::NoText, Given::Text)),
            Some(b'{' | b'[') => Some(Given::NoText),
            _ => Some(Given::Text(text.to_owned())),
        });
    }
    Some(taken)
}

/// The members of a JSON object as they stand there, also those of one name.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, text: &mut fmt::Formatter) -> fmt::Result {
                text.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The text parts of a form; files are ignored.
async fn multipart<T: Take>(headers: &HeaderMap, body: Bytes) -> Option<T> {
    let mut request = Request::new(axum::body::Body::from(body));
    *request.headers_mut() = headers.clone();
    let mut parts = Multipart::from_request(request, &()).await.ok()?;
    let mut taken = T::default();
    while let Some(part) = parts.next_field().await.ok()? {
        if part.file_name().is_some() {
            continue;
        }
        if let Some(name) = part.name().map(str::to_owned) {
            let bytes = part.bytes().await.ok()?;
            taken.take(name.as_bytes(), || Some(Given::from_bytes(bytes.into())));
        }
    }
    Some(taken)
}
