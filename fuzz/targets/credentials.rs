//! The credentials header: decoded credentials survive encoding and decoding.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use m4_user_details::credentials::{LegacyCredentials, MAX_CREDENTIALS_BYTES, NotLegacy};

fuzz_target!(|header: &str| {
    match LegacyCredentials::from_header(header) {
        Ok(read) => {
            assert!(LegacyCredentials::are_in(header));
            let again = LegacyCredentials::from_header(&read.to_header());
            let again = again.unwrap_or_else(|error| panic!("{error:?}"));
            assert!(again == read.carried());
        }
        Err(NotLegacy::OtherScheme) => assert!(!LegacyCredentials::are_in(header)),
        Err(NotLegacy::Malformed) => assert!(LegacyCredentials::are_in(header)),
    }
    let text = || header.to_owned();
    let own = LegacyCredentials {
        username: text(),
        user_id: text(),
        hash: text(),
        method: text(),
        address: text(),
    };
    let read = LegacyCredentials::from_header(&own.to_header());
    if header.is_empty() || header.parse::<IpAddr>().is_ok() {
        let read = read.unwrap_or_else(|error| panic!("{error:?}"));
        assert!(
            read.username.len() + read.user_id.len() + read.hash.len() <= MAX_CREDENTIALS_BYTES
        );
        assert!(read == own.carried());
    } else {
        assert!(read == Err(NotLegacy::Malformed));
    }
});
