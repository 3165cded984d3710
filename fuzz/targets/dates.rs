//! Dates: a complete date keeps every given part, and the stored date supplies the others.
#![no_main]

use chrono::{Datelike, NaiveDate};
use libfuzzer_sys::fuzz_target;
use m4_user_details::domain::value::PartialDate;

fuzz_target!(|data: (Option<i32>, Option<i32>, Option<i32>, i32, u32)| {
    let (year, month, day, stored_year, ordinal) = data;
    let stored = NaiveDate::from_yo_opt(stored_year, ordinal % 400);
    // Include years beyond both limits, 1900 and 9999.
    let year = year.map(|year| 1890 + year.rem_euclid(8200));
    let month = month.map(|month| month % 14);
    let day = day.map(|day| day % 33);
    let Some(date) = (PartialDate { year, month, day }).complete(stored) else { return };
    assert!((1900..=9999).contains(&date.year()));
    let is_part = |given: Option<i32>, part: i64, stored: Option<i64>| {
        given.map(i64::from).or(stored) == Some(part)
    };
    assert!(is_part(year, date.year().into(), stored.map(|date| date.year().into())));
    assert!(is_part(month, date.month().into(), stored.map(|date| date.month().into())));
    assert!(is_part(day, date.day().into(), stored.map(|date| date.day().into())));
});
