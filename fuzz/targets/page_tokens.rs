//! Page tokens: the service refuses text that it did not issue.
#![no_main]

use libfuzzer_sys::fuzz_target;
use m4_user_details::{
    domain::error::Error,
    measured::{change_page, user_page},
    proto::{ListUserDetailsChangesRequest, ListUserDetailsRequest},
};

fuzz_target!(|token: &str| {
    let users = user_page(ListUserDetailsRequest {
        page_token: token.to_owned(),
        ..ListUserDetailsRequest::default()
    });
    let changes = change_page(ListUserDetailsChangesRequest {
        page_token: token.to_owned(),
        ..ListUserDetailsChangesRequest::default()
    });
    for read in [users, changes] {
        assert_eq!(read.is_ok(), token.is_empty());
        let refused = |error| {
            assert!(matches!(error, Error::InvalidRequest { field: "page_token", .. }));
        };
        read.unwrap_or_else(refused);
    }
});
