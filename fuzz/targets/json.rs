//! JSON bodies: a byte order mark and surrounding white space do not change the parameters.
#![no_main]

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;
use m4_user_details::measured::{Parameters, body_parameters, translate};

const MARK: &[u8] = b"\xEF\xBB\xBF";

fn read(body: Vec<u8>) -> Option<Parameters> {
    let json = HeaderValue::from_static("application/json");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    body_parameters(&headers, Bytes::from(body)).now_or_never().expect("the body is in memory")
}

fuzz_target!(|json: &[u8]| {
    let parameters = read(json.to_vec());
    if let Some(parameters) = &parameters {
        translate(parameters, "POST", "127.0.0.1");
        let unmarked = json.strip_prefix(MARK).unwrap_or(json);
        // An empty body has no parameters; a body of spaces is invalid JSON.
        if !unmarked.is_empty() {
            let spaced = [MARK, b"\n ", unmarked, b"\t\r\n"].concat();
            assert_eq!(read(spaced).as_ref(), Some(parameters));
        }
    }
});
