//! Reports how far an import or a comparison is.

/// Receives the progress.
pub(crate) trait Progress: Send {
    /// A table begins.
    fn begin(&mut self, table: &'static str);

    /// `rows` more rows are done: `position` of `total` units.
    fn advance(&mut self, rows: usize, position: (u64, u64));

    /// A table ends.
    fn end(&mut self);
}
