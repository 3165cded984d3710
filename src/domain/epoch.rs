//! Epochs: a restored database begins a new one, so that nothing of the lost time is valid in it.
//!
//! A new epoch moves the versions of all users and the ids of the change log to ranges that no earlier
//! epoch has used, and gets a new token key. So old etags, tokens and change ids match nothing.

/// The versions of a user in one epoch.
pub const VERSIONS_PER_EPOCH: i64 = 1 << 40;
/// The ids of the change log that a new epoch skips: more than the lost time can have used.
pub const SKIPPED_CHANGE_IDS: i64 = 1 << 32;

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
}
