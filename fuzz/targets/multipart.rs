//! Multipart bodies: the parser never panics, and a well-formed part keeps its text.
#![no_main]

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;
use m4_user_details::measured::{Parameters, body_parameters, translate};

fn read(body: Vec<u8>) -> Option<Parameters> {
    let multipart = HeaderValue::from_static("multipart/form-data; boundary=x");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, multipart)]);
    body_parameters(&headers, Bytes::from(body)).now_or_never().expect("the body is in memory")
}

fuzz_target!(|data: &[u8]| {
    if let Some(parameters) = read(data.to_vec()) {
        translate(&parameters, "POST", "127.0.0.1");
    }
    // Use the same bytes as the text of a part, unless they end the part.
    if data.windows(3).any(|bytes| bytes == b"--x") {
        return;
    }
    let head = b"--x\r\nContent-Disposition: form-data; name=\"city\"\r\n\r\n".as_slice();
    let form = data.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let expected = Parameters::from_form(format!("city={form}").as_bytes());
    assert_eq!(read([head, data, b"\r\n--x--\r\n"].concat()), Some(expected));
});
