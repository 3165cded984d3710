//! Query strings: the last value of a parameter wins, and every call can be translated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use m4_user_details::{
    legacy_call::query_parameter,
    measured::{Parameters, translate},
};

fuzz_target!(|query: &str| {
    let parameters = Parameters::from_form(query.as_bytes());
    let translated = translate(&parameters, "GET", "127.0.0.1");
    assert!(translated.request.user_id >= 0);
    // A later pair replaces an earlier pair.
    let longer = format!("{query}&u=last+%31");
    assert_eq!(query_parameter(&longer, "u").as_deref(), Some("last 1"));
});
