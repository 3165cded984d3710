//! The position in a resume token: gaps are sorted, disjoint, and not beyond the position.
#![no_main]

use libfuzzer_sys::fuzz_target;
use m4_user_details::domain::watch::Position;

fuzz_target!(|data: (i64, Vec<(i64, i64)>)| {
    let (seen, missing) = data;
    let Some(position) = Position::new(seen, missing.clone()) else { return };
    assert_eq!(position.seen(), seen);
    assert_eq!(position.missing(), missing);
    let mut before = i64::MIN;
    for (first, last) in missing {
        assert!(before < first && first <= last && last <= seen);
        before = last;
    }
});
