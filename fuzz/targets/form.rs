//! A form body is parsed like a query string, after an optional byte order mark.
#![no_main]

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;
use m4_user_details::measured::{Parameters, body_parameters, translate};

fuzz_target!(|form: &[u8]| {
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, form_type)]);
    let body = body_parameters(&headers, Bytes::copy_from_slice(form)).now_or_never();
    let parameters = body.flatten().expect("a form can always be read");
    let unmarked = form.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(form);
    assert_eq!(parameters, Parameters::from_form(unmarked));
    translate(&parameters, "POST", "127.0.0.1");
});
