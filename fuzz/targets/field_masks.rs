//! Field masks: read masks and update masks accept the same paths and name the same fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use m4_user_details::{
    fields::FIELDS,
    measured::{edits, read_mask},
    proto::UserDetails,
};
use prost_types::FieldMask;

fuzz_target!(|paths: &str| {
    let mask = FieldMask { paths: paths.split(',').map(str::to_owned).collect() };
    let read = read_mask(Some(&mask));
    let edits = edits(UserDetails::default(), Some(&mask));
    assert_eq!(read.is_ok(), edits.is_ok());
    let (Ok(read), Ok(edits)) = (read, edits) else { return };
    let edited: Vec<_> = edits.fields().collect();
    let named: Vec<_> = FIELDS.into_iter().filter(|field| read[*field as usize]).collect();
    assert_eq!(edited, named);
    for path in &mask.paths {
        assert!(FIELDS.iter().any(|field| field.is_within(path)));
    }
});
