//! The parameters in a body: a form, multipart, or JSON. What its type's parser refuses counts as absent.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Multipart};
use bytes::Bytes;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use serde_json::value::RawValue;

use super::parameters::{Given, Parameters};

/// The parameters of a body. Without a content type it is a form.
pub(super) async fn parameters(headers: &HeaderMap, body: Bytes) -> Parameters {
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return Parameters::from_form(&body);
    };
    // Only multipart needs what may follow the type, and reads it itself.
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    match essence.trim().to_ascii_lowercase().as_str() {
        "" | "application/x-www-form-urlencoded" => Parameters::from_form(&body),
        "application/json" => json(&body).unwrap_or_default(),
        "multipart/form-data" => multipart(headers, body).await.unwrap_or_default(),
        _ => Parameters::default(),
    }
}

/// One flat object of strings, numbers, booleans or nulls.
fn json(body: &[u8]) -> Option<Parameters> {
    let object: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    let mut parameters = Parameters::default();
    for (name, value) in object {
        let text = value.get();
        parameters.set(
            &name,
            match text.as_bytes().first() {
                Some(b'n') => None,
                Some(b't') => Some(Given::Text("1".to_owned())),
                Some(b'f') => Some(Given::Text("0".to_owned())),
                Some(b'"') => Some(serde_json::from_str(text).map_or(Given::NoText, Given::Text)),
                Some(b'{' | b'[') => Some(Given::NoText),
                _ => Some(Given::Text(text.to_owned())),
            },
        );
    }
    Some(parameters)
}

/// The text parts of a form; files are ignored.
async fn multipart(headers: &HeaderMap, body: Bytes) -> Option<Parameters> {
    let mut request = Request::new(axum::body::Body::from(body));
    *request.headers_mut() = headers.clone();
    let mut parts = Multipart::from_request(request, &()).await.ok()?;
    let mut parameters = Parameters::default();
    while let Some(part) = parts.next_field().await.ok()? {
        if part.file_name().is_some() {
            continue;
        }
        if let Some(name) = part.name().map(str::to_owned) {
            let bytes = part.bytes().await.ok()?;
            parameters.set(&name, Some(Given::from_bytes(bytes.into())));
        }
    }
    Some(parameters)
}
