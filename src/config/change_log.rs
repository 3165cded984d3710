//! The section `change_log`.

use chrono::TimeDelta;

use super::{section::section, value::Number};

section! {
    /// The change log.
    ChangeLog("change_log.") {
        /// Days that the change log is kept; 0 keeps it forever.
        days: Number<0, 36_500> = "0",
    }
}

impl ChangeLog {
    /// How long entries are kept; `None` keeps them forever.
    pub(super) fn retention(&self) -> Option<TimeDelta> {
        (self.days.0 > 0).then(|| TimeDelta::days(self.days.0 as i64))
    }
}
