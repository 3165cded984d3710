//! Epochs: a restored database begins a new one, so that nothing of the lost time is valid in it.
//!
//! A new epoch moves the versions of all users and the ids of the change log to ranges that no earlier
//! epoch has used, and gets a new token key. So old etags, tokens and change ids match nothing.

use chrono::{DateTime, Utc};

/// The versions of a user in one epoch.
pub const VERSIONS_PER_EPOCH: i64 = 1 << 32;
/// The change ids of one epoch.
const CHANGE_IDS_PER_EPOCH: i64 = 1 << 32;
/// 2026-01-01 00:00:00 UTC, in seconds since 1970.
const FIRST_EPOCH: i64 = 1_767_225_600;

/// The number of an epoch that begins now, after the epoch `last`. It is a time: a backup that is restored
/// twice begins another epoch each time.
pub fn number(last: i64, now: DateTime<Utc>) -> i64 {
    (now.timestamp() - FIRST_EPOCH).max(last + 1)
}

/// The first change id of an epoch.
pub fn first_change_id(epoch: i64) -> i64 {
    epoch * CHANGE_IDS_PER_EPOCH + 1
}

/// Whether an etag belongs to an earlier epoch than a version of its user.
pub fn is_earlier(etag: &str, version: i64) -> bool {
    let sent = etag.split_once('-').and_then(|(_, sent)| i64::from_str_radix(sent, 16).ok());
    sent.is_some_and(|sent| sent / VERSIONS_PER_EPOCH < version / VERSIONS_PER_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::etag;

    #[test]
    fn an_etag_belongs_to_the_epoch_of_its_version() {
        let second = VERSIONS_PER_EPOCH + 7;
        assert!(is_earlier(&etag(3, 7), second) && is_earlier(&etag(3, 9), second));
        assert!(!is_earlier(&etag(3, second), second) && !is_earlier(&etag(3, 7), 9));
        for other in ["", "3", "3-", "3-x", "3-8000000000000000"] {
            assert!(!is_earlier(other, second), "{other}");
        }
    }

    #[test]
    fn epochs_grow_and_their_ids_fit() {
        let at = |seconds| DateTime::from_timestamp(FIRST_EPOCH + seconds, 0).unwrap();
        assert_eq!((number(0, at(100)), number(100, at(100)), number(7, at(-9))), (100, 101, 8));
        // For 68 years.
        let last = i64::from(i32::MAX);
        assert!(first_change_id(last) > first_change_id(last - 1));
        assert!(last.checked_mul(VERSIONS_PER_EPOCH).is_some());
    }
}
