//! The size of the pages in which the change log is read.

/// Maximum number of entries per page.
pub(super) const MAX_PAGE: u64 = 1000;

/// The entry limit of the next page. Adapts to the size of entries, since a server sends all rows
/// of a page, even beyond the byte limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize(pub(super) u64);

impl Default for PageSize {
    fn default() -> Self {
        Self(64)
    }
}

impl PageSize {
    /// Adapts to a page of `entries`, which the byte limit may have cut. Returns whether more
    /// entries may follow.
    pub(super) fn adapt(&mut self, entries: usize, is_cut: bool) -> bool {
        let entries = entries as u64;
        let is_full = entries >= self.0;
        if is_cut {
            self.0 = (entries * 2).clamp(1, MAX_PAGE);
        } else if is_full {
            self.0 = (self.0 * 2).min(MAX_PAGE);
        }
        is_cut || is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_while_they_are_full_and_shrink_where_they_are_cut() {
        let mut size = PageSize::default();
        let full = [64, 128, 256, 512, 1000, 1000];
        for expected in full {
            assert_eq!(size.0, expected);
            assert!(size.adapt(usize::try_from(expected).unwrap(), false));
        }
        assert!(!size.adapt(999, false));
        assert!(size.adapt(3, true));
        assert_eq!(size.0, 6);
        assert!(size.adapt(1, true));
        assert_eq!(size.0, 2);
    }
}
