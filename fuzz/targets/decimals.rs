//! Decimals: a parsed value is exact, and its text parses to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use m4_user_details::domain::value::{micros_to_text, parse_micros};

fuzz_target!(|text: &str| {
    let Some(micros) = parse_micros(text) else { return };
    assert!(micros.unsigned_abs() < 1_000_000_000_000_000_000);
    let written = micros_to_text(micros);
    assert_eq!(parse_micros(&written), Some(micros), "{written}");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction:0<6}");
    assert_eq!(digits.parse(), Ok(micros));
});
